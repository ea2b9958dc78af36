public import FabricCompletion
public import FabricVerbs
public import FabricWire

/// Data that the peer has written into one of this side's advertised buffers. It stays here until
/// `Channel.returnBuffer`.
public struct ReceivedBuffer: Sendable, Hashable, BitwiseCopyable {
  public let id: UInt16
  /// First byte of the data, page-aligned, an address in this process.
  public let address: UInt64
  public let byteCount: Int
  public let localKey: LocalKey
}

/// A message that has come. `payload` may be read until the handler returns.
public struct IncomingMessage: Sendable {
  /// The sender's choice; 0 for a push's end.
  public let kind: UInt16
  public let tag: UInt32
  public let payload: WireView
  /// The data of a transfer.
  public let buffer: ReceivedBuffer?
  /// The end of the peer's `push` with this tag: the data is in place.
  public let isPushCompletion: Bool
}

/// Hears of a channel, on the thread of its completion service. What a handler sends goes out as
/// one batch when it returns.
public protocol ChannelHandler: AnyObject {
  /// Messages that came together, in order.
  func channel(_ channel: Channel, received messages: Span<IncomingMessage>)
  /// The sends with these tokens have ended: their data may be used again.
  func channel(_ channel: Channel, finished tokens: Span<UInt64>)
  /// Credits or buffers have come back after a refusal.
  func channelCanSend(_ channel: Channel)
  /// A message of a channel is likely to come soon: with many channels what it will touch has left
  /// the cache, and can be asked for now, first what this object points to (`.user`) and then what that
  /// points to (`.userContents`). Nothing else is to be done here.
  func prepare(_ step: PreparationStep)
  /// The last call.
  func channel(_ channel: Channel, closed reason: ChannelCloseReason)
}

extension ChannelHandler {
  public func prepare(_ step: PreparationStep) {}
  public func channel(_ channel: Channel, finished tokens: Span<UInt64>) {}
  public func channelCanSend(_ channel: Channel) {}
}
