import FabricCompletion
import FabricIOProtocol
import FabricPlatform
import FabricStorage
import FabricVerbs

/// A volume on a shard, with certain rights: a port, carried on by the shard's completion service.
/// Confined to the shard's thread.
final class ServedVolume: ProgressSource, VolumePortHandler {
  let volume: Volume
  let access: VolumeAccess
  let blockByteCount: UInt64
  /// The fabric memory that the blocks lie in, where they do.
  let directMemory: UnitMemory?
  private(set) var port: VolumePort!
  /// The same, for each read that goes the direct way.
  private var portReference: UncountedReference<VolumePort>?
  /// Holds this object in turn until it is taken off the shard.
  private let shard: UnitShard
  private var isArmed = false
  /// How the volume has done, through this port.
  private var counted = ControlHealth()
  private let since = MonotonicTime.now
  /// Whether the port may have something: looked at in every round, so it is kept here.
  var needsPoll = true

  init(
    _ volume: Volume, access: VolumeAccess, depth: Int, shard: UnitShard,
    registration: Registration, directMemory: UnitMemory?
  ) throws(CommonLayerError) {
    self.volume = volume
    self.access = access
    self.shard = shard
    self.directMemory = directMemory
    blockByteCount = UInt64(volume.blockByteCount)
    port = try registration.openPort(on: volume, access: access, depth: depth, handler: self)
    portReference = UncountedReference(port)
  }

  /// The blocks for a work request, where they lie in fabric memory and may be read there.
  ///
  /// - Parameter key: of `directMemory`, at the endpoint of the connection.
  @inline(__always)
  func directElement(
    block: UInt64, blockCount: UInt32, byteCount: UInt32, key: LocalKey
  ) -> ScatterGatherElement? {
    guard UInt64(byteCount) == UInt64(blockCount) &* blockByteCount,
      let address = portReference?.with({ $0.directAddress(block: block, blockCount: blockCount) })
    else { return nil }
    return ScatterGatherElement(address: address, byteCount: byteCount, localKey: key)
  }

  // MARK: Health

  /// How the volume has done. (IO-73)
  var health: ControlHealth {
    var health = counted
    health.secondsInService = UInt64(MonotonicTime.now.nanoseconds(since: since)) / 1_000_000_000
    return health
  }

  /// A command of a host has ended. Reads of fabric memory that take the direct way are not counted.
  func count(_ opcode: Opcode, _ status: BlockStatus, _ byteCount: UInt32) {
    switch (opcode, status) {
    case (.read, _):
      counted.readCount &+= 1
      counted.readByteCount &+= UInt64(byteCount)
    case (.write, .success):
      counted.writeCount &+= 1
      counted.writtenByteCount &+= UInt64(byteCount)
    default: break
    }
    switch status {
    case .mediaReadError, .mediaWriteError: counted.mediaErrorCount &+= 1
    case .flushFailed: counted.flushFailureCount &+= 1
    default: break
    }
  }

  // MARK: Progress

  func progress() -> Int {
    guard needsPoll, !isArmed else { return 0 }
    port.flushSubmissions()
    let count = port.poll()
    if count > 0 { shard.flushTouched() }
    needsPoll = port.inFlightCount > 0 || shard.hasQuiescing || !port.isOpen
    return count
  }

  var descriptor: CInt? { port.descriptor }

  // A port that is armed has been looked at, and a poll would end that: the service's last round
  // before it sleeps leaves the port alone.
  func arm() { isArmed = port.arm() }
  func disarm() { isArmed = false }
  var nextDeadline: MonotonicTime? { nil }

  // MARK: What ended

  func volumePort(_ port: VolumePort, completed completions: Span<BlockCompletion>) {
    for index in completions.indices {
      let completion = completions[index]
      let place = UnitConnection.Place(rawValue: completion.tag)
      shard.connection(place.connection)?.ended(
        place.slot, status: completion.status,
        transferredByteCount: completion.transferredByteCount)
    }
    shard.retryDeferred()
  }

  func volumePort(_ port: VolumePort, quiesced client: UInt32) {
    shard.quiesced(client, of: self)
  }
}
