/// The messages of an `AsyncChannel`, one after the other. For one reader.
public struct AsyncMessages: AsyncSequence, Sendable {
  public typealias Element = Message
  public typealias Failure = Never
  private let core: AsyncChannelCore

  init(_ core: AsyncChannelCore) { self.core = core }

  public func makeAsyncIterator() -> Iterator { Iterator(core) }

  public struct Iterator: AsyncIteratorProtocol {
    private let core: AsyncChannelCore
    private var arrivals: AsyncStream<Message>.Iterator

    init(_ core: AsyncChannelCore) {
      self.core = core
      arrivals = core.messages.makeAsyncIterator()
    }

    /// The next message; nil when the channel has closed.
    public mutating func next() async -> Message? {
      guard let message = await arrivals.next() else { return nil }
      core.wasRead(message)
      return message
    }
  }
}
