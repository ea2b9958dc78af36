import FabricNVMe
import FabricPlatform
import FabricVerbs

/// The registered memory of one queue: commands and their data as they arrive, completions on their way
/// out, and what the controller itself is told and tells.
///
/// Data lie in pages of their own, so that stores take them from there.
final class RDMAQueueMemory {
  /// Of Connect, and of most of what an admin queue transfers.
  static let ownByteCount = CommandQueue.adminByteCount

  let dataByteCount: Int
  private let domain: any ProtectionDomain
  private let region: MemoryRegion
  private let ownOffset: Int
  private let commandOffset: Int
  private let completionOffset: Int

  /// - Parameters:
  ///   - receiveCount: commands that may arrive at once.
  ///   - dataByteCount: that may come with one; whole pages, or 0.
  ///   - completionCount: on their way out at once.
  init(
    receiveCount: Int, dataByteCount: Int, completionCount: Int, in domain: any ProtectionDomain
  ) throws(RegistrationError) {
    self.domain = domain
    self.dataByteCount = dataByteCount
    ownOffset = receiveCount * dataByteCount
    commandOffset = ownOffset + Self.ownByteCount
    completionOffset = commandOffset + receiveCount * Command.byteCount
    region = try domain.allocate(
      byteCount: completionOffset + completionCount * Completion.byteCount, access: .localWrite)
  }

  func release() { domain.deregister(region) }

  /// Where a capsule's command is.
  func command(_ capsule: Int) -> UInt64 {
    region.address + UInt64(commandOffset + capsule * Command.byteCount)
  }

  /// Where its data is.
  func data(_ capsule: Int) -> UInt64 { region.address + UInt64(capsule * dataByteCount) }

  /// Where a completion is.
  func completion(_ number: Int) -> UInt64 {
    region.address + UInt64(completionOffset + number * Completion.byteCount)
  }

  /// Memory that nobody has to wait for.
  var own: CommandBuffer {
    CommandBuffer(
      address: region.address + UInt64(ownOffset), byteCount: Self.ownByteCount,
      key: region.localKey.rawValue)
  }

  /// What a capsule is received into.
  func receive(_ capsule: Int) -> ScatterGatherList {
    let command = ScatterGatherElement(
      address: command(capsule), byteCount: UInt32(Command.byteCount), localKey: region.localKey)
    guard dataByteCount > 0 else { return ScatterGatherList(command) }
    return ScatterGatherList(
      command,
      ScatterGatherElement(
        address: data(capsule), byteCount: UInt32(dataByteCount), localKey: region.localKey))
  }

  /// What a completion is sent from.
  func send(_ number: Int) -> ScatterGatherList {
    ScatterGatherList(
      ScatterGatherElement(
        address: completion(number), byteCount: UInt32(Completion.byteCount),
        localKey: region.localKey))
  }
}
