import FabricVerbs
import FabricWire

/// The registered memory of one channel: receives, messages on their way out, and the buffers
/// advertised to the peer.
@safe
final class ChannelMemory {
  /// In front of each buffer's data: room for the header and payload that come with it.
  static let headroomByteCount = 4096

  let messageByteCount: Int
  private let sendMessageByteCount: Int
  // What a message needs to know of the regions, without a look at them.
  private let receiveAddress: UInt64
  private let sendAddress: UInt64
  private let receiveKey: LocalKey
  private let sendKey: LocalKey
  let domain: any ProtectionDomain
  let receives: MemoryRegion
  let sends: MemoryRegion
  /// What the peer may write to: an acceptor makes it when the peer has opened.
  private(set) var buffers: MemoryRegion?
  /// Opens the buffers, to this channel's peer only.
  private(set) var bufferKey = RemoteKey(rawValue: 0)
  let bufferByteCount: Int

  init(_ options: ChannelOptions, in domain: any ProtectionDomain) throws(RegistrationError) {
    self.domain = domain
    messageByteCount = options.messageByteCount
    sendMessageByteCount = options.messageByteCount
    bufferByteCount = options.bufferByteCount
    receives = try domain.allocate(
      byteCount: options.receiveCount * options.messageByteCount, access: .localWrite)
    do {
      sends = try domain.allocate(
        byteCount: options.sendCount * options.messageByteCount, access: [])
    } catch {
      domain.deregister(receives)
      throw error
    }
    (receiveAddress, receiveKey) = (receives.address, receives.localKey)
    (sendAddress, sendKey) = (sends.address, sends.localKey)
  }

  /// Makes the buffers that `options` ask for, for the peer of `queuePair`.
  func makeBuffers(
    _ options: ChannelOptions, for queuePair: any QueuePair
  ) throws(RegistrationError) {
    guard options.bufferCount > 0, options.bufferByteCount > 0, buffers == nil else { return }
    let region = try domain.allocate(
      byteCount: options.bufferCount * (Self.headroomByteCount + options.bufferByteCount),
      access: [.localWrite, .remoteWrite])
    do {
      bufferKey = try domain.grant(
        .remoteWrite, to: region, offset: 0, byteCount: region.byteCount, only: queuePair)
    } catch {
      domain.deregister(region)
      throw error
    }
    if let key = region.remoteKey { domain.revoke(key) }
    buffers = region
  }

  func release() {
    domain.deregister(receives)
    domain.deregister(sends)
    if let buffers { domain.deregister(buffers) }
  }

  @inline(__always)
  func receiveElement(_ slot: Int) -> ScatterGatherElement {
    ScatterGatherElement(
      address: receiveAddress &+ UInt64(slot &* messageByteCount),
      byteCount: UInt32(truncatingIfNeeded: messageByteCount), localKey: receiveKey)
  }

  /// The first `byteCount` bytes of a received message; the caller has checked the count.
  @inline(__always)
  func received(_ slot: Int, byteCount: Int) -> WireView {
    precondition(byteCount <= messageByteCount)
    return unsafe WireView(
      UnsafeRawPointer(bitPattern: UInt(receiveAddress) &+ UInt(slot &* messageByteCount))!,
      byteCount: byteCount)
  }

  @inline(__always)
  func outgoing(_ slot: Int) -> WireBuffer {
    unsafe WireBuffer(
      UnsafeMutableRawPointer(
        bitPattern: UInt(sendAddress) &+ UInt(slot &* sendMessageByteCount))!,
      byteCount: sendMessageByteCount)
  }

  @inline(__always)
  func outgoingElement(_ slot: Int, byteCount: Int) -> ScatterGatherElement {
    ScatterGatherElement(
      address: sendAddress &+ UInt64(slot &* sendMessageByteCount),
      byteCount: UInt32(truncatingIfNeeded: byteCount), localKey: sendKey)
  }

  /// Where a buffer's data begins; its headroom lies in front.
  @inline(__always)
  func dataAddress(_ id: UInt16) -> UInt64 {
    guard let buffers else { return 0 }
    return buffers.address
      &+ UInt64(Int(id) &* (Self.headroomByteCount &+ bufferByteCount) &+ Self.headroomByteCount)
  }

  /// What the peer wrote right before a buffer's data.
  func headroom(_ id: UInt16, byteCount: Int) -> WireView {
    precondition(byteCount <= Self.headroomByteCount)
    return unsafe WireView(
      UnsafeRawPointer(bitPattern: UInt(dataAddress(id)) &- UInt(byteCount))!,
      byteCount: byteCount)
  }
}
