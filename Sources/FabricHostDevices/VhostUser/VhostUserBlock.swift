public import FabricCompletion
public import FabricHostDriver
import FabricBounded
import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs

/// Why a volume cannot be offered to virtual machines.
public enum VhostUserError: Error, Equatable, CustomStringConvertible {
  /// The socket cannot be listened at.
  case listening(String)
  /// The system lacks something.
  case system(String)

  public var description: String {
    switch self {
    case .listening(let words), .system(let words): words
    }
  }
}

/// A remote volume as the disk of a virtual machine: the back end of vhost-user-blk. Whoever emulates the
/// machine (QEMU and others) connects to a Unix socket; requests go from the guest's memory to the
/// unit, without a copy where fabric and memory get along. `Specs/VhostUser.md` has the rules.
///
/// Threads: confined to the thread that runs `service`. Nothing is allocated per request, and no system call is
/// made but one to call a queue's driver for a batch.
public final class VhostUserBlock: RemoteVolumeHandler {
  public struct Options: Sendable {
    /// Of the volume's own queue.
    public var volume = RemoteVolumeQueue.Options()
    /// Queues that a machine may have, 1 to 64. QEMU wants as many as the machine has processors.
    public var queueCount = 16
    /// Memory for data that is copied on its way.
    public var copyByteCount = 8 << 20
    /// Copies what is written before it goes. To be set where a sum is made of it and it is sent later: a
    /// guest that changes its memory meanwhile would end the connection. (VU-47)
    public var copiesWrites = false
    /// Takes guest memory that the front end could make shorter under this process, which would end it.
    public var takesUnsealedMemory = false
    /// Told of front ends that come, go and are refused, one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  public let path: String
  public let options: Options
  /// Told where the volume stands, each time that changes.
  public var changed: (RemoteVolumeQueue.State) -> Void = { _ in }
  /// Whether a front end is there.
  public var hasFrontEnd: Bool { frontEndProcess != nil }
  /// The process that is connected, 0 where that is hidden; nil: none is.
  public var frontEndProcess: Int32? { session.flatMap { $0.isGone ? nil : $0.processID } }

  let service: CompletionService
  private(set) var volume: RemoteVolumeQueue!
  /// The same, for each request.
  private(set) var volumeReference: UncountedReference<RemoteVolumeQueue>!
  private let adapters: [any Adapter]
  private let name: SocketPath
  let listener: StreamSocket
  let poller: Poller
  let refusals: RefusalLog
  var device: BlockDevice?
  var session: GuestSession?
  var isClosed = false

  // Rounds.
  var roundCount = 0
  var isArmed = false
  var mustAsk = true
  var mayHaveConnection = true
  var acceptAgainAt: MonotonicTime?

  // Requests.
  let requests: FixedTable<GuestRequest>
  let freeRequests: IndexPool
  let chain = DescriptorChain()
  var parser: RequestParser?
  var copies: CopyBuffers?
  /// The request of which a part waits for room; -1: none.
  var waiting = -1
  var firstQueue = 0

  enum Tag {
    static let listener: UInt64 = 0
    static let socket: UInt64 = 1
    static let kick: UInt64 = 2
  }

  /// Listens at `path`, in place of a socket that a dead process left, and connects to the volume. Front ends
  /// wait until it is there. (VU-1, VU-2)
  ///
  /// - Parameters:
  ///   - addresses: several are several paths, with an adapter for each fabric.
  ///   - service: carries the device on; run by the caller or by its own thread, which is also the one
  ///     that calls this.
  public init(
    _ addresses: [VolumeAddress], path: String, adapters: [any Adapter],
    service: CompletionService, options: Options = .init()
  ) throws(VhostUserError) {
    precondition(
      options.queueCount >= 1 && options.queueCount <= VhostUser.queueCountLimit, "1 to 64 queues")
    self.path = path
    self.options = options
    self.service = service
    self.adapters = adapters
    let depth = options.volume.depth
    requests = FixedTable(repeating: GuestRequest(), count: depth)
    freeRequests = IndexPool(capacity: depth)
    refusals = RefusalLog(service, log: options.log)
    do throws(Errno) {
      poller = try Poller()
      (listener, name) = try SocketPath.claim(path) { path throws(Errno) in
        try StreamSocket.listen(atPath: path, isPrivate: true)
      } connect: { path throws(Errno) in
        _ = try StreamSocket.connect(toPath: path)
      }
    } catch {
      throw .listening(
        SocketPath.reason(error, at: path) ?? "listening at \(path) failed: \(error)")
    }
    do throws(Errno) {
      try poller.addEdges(listener.number, tag: Tag.listener)
    } catch {
      name.remove()
      throw .system("watching the socket \(path) failed: \(error)")
    }
    do throws(ChannelOpenError) {
      volume = try RemoteVolumeQueue(
        addresses, adapters: adapters, service: service, options: options.volume, handler: self)
    } catch {
      name.remove()
      throw .system("\(error)")
    }
    volumeReference = UncountedReference(volume)
    service.add(self as any ProgressSource)
    service.add(refusals)
    volume.attach()
  }

  /// Where the volume stands.
  public var state: RemoteVolumeQueue.State { volume.state }

  /// Hangs up on the front end, removes the socket and lets go of the volume. What was under way is done again
  /// by whoever serves the machine next. (VU-55)
  public func close() {
    if isClosed { return }
    isClosed = true
    service.keepToRoundEnd(self)
    name.remove()
    poller.remove(listener.number)
    hangUp()
    volume.close()
    service.remove(self as any ProgressSource)
    service.remove(refusals)
    endSessionIfDrained()
  }

  /// The volume has another size now: the machine is told, if it is there. (VU-46)
  public func resize(blockCount: UInt64) {
    guard var device, device.blockCount != blockCount else { return }
    device.blockCount = blockCount
    self.device = device
    parser?.device = device
    notifyOfConfiguration()
  }

  public func remoteVolume(
    _ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State
  ) {
    if case .attached(let info) = state {
      if device == nil { prepare(info) } else { resize(blockCount: info.blockCount) }
    }
    changed(state)
  }

  /// The volume is known: machines may come.
  private func prepare(_ info: RemoteVolumeInfo) {
    let device = BlockDevice(
      blockByteCount: info.blockByteCount, blockCount: info.blockCount,
      isReadOnly: info.access == .readOnly || options.volume.access == .readOnly,
      queueCount: options.queueCount, identifier: info.identifier)
    do throws(RegistrationError) {
      copies = try CopyBuffers(
        byteCount: options.copyByteCount, limit: info.maximumTransferByteCount,
        blockByteCount: Int(info.blockByteCount), volume: volume)
    } catch { return options.log("no memory for what is copied: \(error)") }
    parser = RequestParser(
      device: device, requestCount: requests.count,
      takesPieces: takesForeignMemory, copiesWrites: options.copiesWrites)
    self.device = device
    mustAsk = true
  }

  /// Whether guest memory is registered. With paths of several fabrics all of them have to take it. (VU-21)
  var takesForeignMemory: Bool {
    adapters.allSatisfy { $0.capabilities.hasForeignMemory }
  }

  /// Requests of machines that have not ended.
  public var underWayCount: Int { requests.count - freeRequests.count }
  /// What machines have asked for.
  public internal(set) var figures = DeviceFigures()
}
