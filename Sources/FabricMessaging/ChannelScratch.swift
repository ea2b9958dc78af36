import FabricVerbs

/// Memory for what a channel hands on in one call, shared by the channels of one completion queue: only
/// one of them is handling messages at a time.
@safe
final class ChannelScratch {
  /// Messages, receives or tokens that are handed on in one call.
  static let count = 64

  let incoming: UnsafeMutablePointer<IncomingMessage>
  let reposts: UnsafeMutablePointer<ReceiveRequest>
  let tokens: UnsafeMutablePointer<UInt64>

  init() {
    unsafe incoming = .allocate(capacity: Self.count)
    unsafe reposts = .allocate(capacity: Self.count)
    unsafe tokens = .allocate(capacity: Self.count)
  }

  deinit {
    unsafe incoming.deallocate()
    unsafe reposts.deallocate()
    unsafe tokens.deallocate()
  }
}
