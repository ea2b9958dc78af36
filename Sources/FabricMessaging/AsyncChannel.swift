import FabricCompletion
import FabricPlatform
public import FabricVerbs
import FabricWire
import Synchronization

/// A message as the `async` face hands it over: a copy that belongs to whoever gets it.
public struct Message: Sendable, Hashable {
  public var kind: UInt16
  public var tag: UInt32
  public var bytes: [UInt8]

  public init(kind: UInt16 = 0, tag: UInt32 = 0, bytes: [UInt8]) {
    self.kind = kind
    self.tag = tag
    self.bytes = bytes
  }

  /// A message of text, in UTF-8.
  public init(_ text: String, kind: UInt16 = 0, tag: UInt32 = 0) {
    self.init(kind: kind, tag: tag, bytes: Array(text.utf8))
  }

  /// The bytes read as UTF-8.
  public var text: String { String(decoding: bytes, as: UTF8.self) }
}

/// A channel for tasks: sends wait for credit, messages come as a sequence.
///
/// It copies every message and hops between threads; the hot path is `Channel` with a
/// `ChannelHandler`. Threads: all calls from any task.
public final class AsyncChannel: Sendable {
  /// What the peer sends, in order; ends when the channel closes. For one reader.
  ///
  /// What is not read is kept, a mebibyte and what was under way; then the peer has to wait, and
  /// with it the answer to a `request`.
  public var messages: AsyncMessages { AsyncMessages(core) }
  let core: AsyncChannelCore

  init(_ core: AsyncChannelCore) { self.core = core }

  /// What the peer passed in the opening.
  public var peerGreeting: [UInt8] { core.greeting.withLock { $0 } }

  /// Bytes that a message may have: more than fit a small one travel in an advertised buffer.
  public var maximumByteCount: Int { core.maximumByteCount.withLock { $0 } }

  /// Sends a message; returns when the fabric has taken it, waiting for credit if need be.
  ///
  /// - Throws: `SendRefusal.tooLong`, or the reason for which the channel is closed.
  public func send(_ message: Message) async throws {
    try await core.send(message)
  }

  /// Sends a message with a fresh tag and waits for the peer's message with the same tag and kind,
  /// which does not appear in `messages`.
  public func request(_ message: Message) async throws -> Message {
    try await core.request(message)
  }

  /// Closes the channel in order; `messages` ends.
  public func close() { core.close() }
}

/// How an `AsyncChannel` outlives its connection.
public struct Reconnection: Sendable {
  /// How long to wait between attempts, which go on until `close`.
  public var backoff: Backoff
  /// Told of each attempt: "attempt 3, next in 2 s, because ...".
  public var log: @Sendable (String) -> Void

  public init(backoff: Backoff = Backoff(), log: @escaping @Sendable (String) -> Void = { _ in }) {
    self.backoff = backoff
    self.log = log
  }
}

/// Runs channels for tasks on a thread of its own.
///
/// ```swift
/// let fabric = try AsyncFabric(SharedMemoryAdapter())
/// let channel = try await fabric.connect(to: FabricAddress(fabric: "shm", endpoint: "/tmp/a"))
/// try await channel.send(Message("hello"))
/// for await message in channel.messages { print(message.text) }
/// ```
public final class AsyncFabric: Sendable {
  private let service: CompletionService
  private let endpoint: ChannelEndpoint

  public init(_ adapter: any Adapter) throws {
    var options = CompletionService.Options()
    options.threadCount = 1
    options.numaNode = adapter.numaNode
    service = try CompletionService(options)
    endpoint = try ChannelEndpoint(adapter: adapter, service: service)
  }

  deinit {
    let (service, endpoint) = (service, endpoint)
    service.execute { endpoint.close() }
    service.stop()
  }

  /// Opens a channel to a listener.
  ///
  /// - Parameter reconnection: with it the channel is opened again whenever it is lost, until
  ///   `close`: sends wait meanwhile, requests under way fail with the reason, and of the messages
  ///   sent right before the loss some may not have arrived.
  public func connect(
    to address: FabricAddress, options: ChannelOptions = ChannelOptions(),
    timeout: Duration = .seconds(5), reconnection: Reconnection? = nil
  ) async throws -> AsyncChannel {
    let (service, endpoint) = (service, endpoint)
    let core = AsyncChannelCore(service, reconnection: reconnection)
    return try await withCheckedThrowingContinuation { continuation in
      service.execute {
        core.open = { [unowned core] completed in
          endpoint.connect(
            to: address, options: options, timeout: timeout, handler: core,
            completed: completed)
        }
        core.open? {
          switch $0 {
          case .success(let channel):
            core.opened(channel)
            continuation.resume(returning: AsyncChannel(core))
          case .failure(let error): continuation.resume(throwing: error)
          }
        }
      }
    }
  }

  /// Listens at an address; each channel that a peer opens is an element. Dropping the sequence's
  /// reader stops listening.
  public func listen(
    at address: FabricAddress, options: ChannelOptions = ChannelOptions()
  ) async throws -> AsyncStream<AsyncChannel> {
    let (service, endpoint) = (service, endpoint)
    let (stream, continuation) = AsyncStream<AsyncChannel>.makeStream()
    try await withCheckedThrowingContinuation {
      (listening: CheckedContinuation<Void, any Error>) in
      service.execute {
        do {
          let listener = try endpoint.listen(
            at: address, options: options,
            accept: { _, _ in
              .accept(greeting: options.greeting, handler: AsyncChannelCore(service))
            },
            opened: { channel in
              guard let core = channel.handler as? AsyncChannelCore else { return }
              core.opened(channel)
              continuation.yield(AsyncChannel(core))
            })
          continuation.onTermination = { _ in service.execute { listener.close() } }
          listening.resume()
        } catch {
          listening.resume(throwing: error)
        }
      }
    }
    return stream
  }
}
