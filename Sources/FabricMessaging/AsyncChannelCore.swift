import FabricCompletion
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// The part of an `AsyncChannel` that lives on the service's thread; everything that is not behind
/// a mutex belongs to that thread.
final class AsyncChannelCore: ChannelHandler, @unchecked Sendable {
  let messages: AsyncStream<Message>
  let greeting = Mutex<[UInt8]>([])
  let maximumByteCount = Mutex(0)
  private let service: CompletionService
  private let arrivals: AsyncStream<Message>.Continuation

  /// Bytes that arrived and were not read.
  private let unreadByteCount = Atomic<Int>(0)
  /// Whether the peer has to wait for the reader.
  private let holding = Atomic<Bool>(false)
  var isHolding: Bool { holding.load(ordering: .relaxed) }
  /// From so many on the peer has to wait, until there are half as many.
  static let unreadLimit = 1 << 20

  private var channel: Channel?
  /// What waits for credit, and whom to tell when it was taken or will never be.
  private var waiting: [(message: Message, ended: (Result<Void, any Error>) -> Void)] = []
  private var requests: [UInt32: CheckedContinuation<Message, any Error>] = [:]
  private var nextTag: UInt32 = 1
  private var closeReason: ChannelCloseReason?
  /// Where the data of long messages lies until the peer has it.
  private var pool: MessagePool?
  private var lent: [UInt64: MessageElement] = [:]
  /// How a lost channel is opened again; nil when it is not.
  private let reconnection: Reconnection?
  private var backoff: Backoff
  /// Opens the channel once more and tells how it went.
  var open: ((@escaping (Result<Channel, ChannelOpenError>) -> Void) -> Void)?
  private var isClosing = false

  init(_ service: CompletionService, reconnection: Reconnection? = nil) {
    self.service = service
    self.reconnection = reconnection
    backoff = reconnection?.backoff ?? Backoff()
    (messages, arrivals) = AsyncStream.makeStream()
  }

  func opened(_ channel: Channel) {
    self.channel = channel
    greeting.withLock { $0 = channel.peerGreeting }
    maximumByteCount.withLock {
      $0 = max(channel.maximumPayloadByteCount, channel.peerBufferByteCount)
    }
  }

  // MARK: From any task

  func send(_ message: Message) async throws {
    try await withCheckedThrowingContinuation { continuation in
      service.execute { self.enqueue(message) { continuation.resume(with: $0) } }
    }
  }

  func request(_ message: Message) async throws -> Message {
    try await withCheckedThrowingContinuation { continuation in
      service.execute {
        var message = message
        message.tag = self.nextTag
        self.nextTag = self.nextTag == .max ? 1 : self.nextTag + 1
        let tag = message.tag
        self.requests[tag] = continuation
        self.enqueue(message) { result in
          if case .failure(let error) = result {
            self.requests.removeValue(forKey: tag)?.resume(throwing: error)
          }
        }
      }
    }
  }

  func close() {
    service.execute {
      self.isClosing = true
      if let channel = self.channel {
        channel.close()
      } else {
        self.end(self.closeReason ?? .local)
      }
    }
  }

  // MARK: On the service's thread

  private func enqueue(_ message: Message, _ ended: @escaping (Result<Void, any Error>) -> Void) {
    waiting.append((message, ended))
    sendWaiting()
  }

  private func sendWaiting() {
    var sent = 0
    defer {
      waiting.removeFirst(sent)
      channel?.flush()
    }
    for (message, ended) in waiting {
      switch trySending(message) {
      case nil: ended(.success(()))
      case .noCredit, .noBuffer: return
      case .closed: ended(.failure(closeReason ?? .local))
      case .tooLong: ended(.failure(SendRefusal.tooLong))
      }
      sent += 1
    }
  }

  private func trySending(_ message: Message) -> SendRefusal? {
    guard let channel else { return isReconnecting ? .noCredit : .closed }
    if message.bytes.count <= channel.maximumPayloadByteCount {
      return withView(of: message.bytes) {
        channel.send(kind: message.kind, tag: message.tag, payload: $0)
      }
    }
    guard message.bytes.count <= channel.peerBufferByteCount else { return .tooLong }
    guard let element = takeElement(channel) else { return .noBuffer }
    unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(element.address)),
      count: message.bytes.count
    ).copyBytes(from: message.bytes)
    let refusal = withView(of: []) {
      channel.transfer(
        kind: message.kind, tag: message.tag, payload: $0,
        data: element.element(byteCount: message.bytes.count), token: UInt64(element.index))
    }
    if refusal == nil {
      lent[UInt64(element.index)] = element
    } else {
      pool?.giveBack(element)
    }
    return refusal
  }

  private func takeElement(_ channel: Channel) -> MessageElement? {
    if pool == nil {
      pool = try? MessagePool(
        in: channel.domain, capacity: 8, elementByteCount: channel.peerBufferByteCount)
    }
    return pool?.take()
  }

  private func withView<Result>(of bytes: [UInt8], _ body: (WireView) -> Result) -> Result {
    unsafe withUnsafeTemporaryAllocation(byteCount: max(1, bytes.count), alignment: 8) { raw in
      unsafe raw.copyBytes(from: bytes)
      return unsafe body(WireView(raw.baseAddress!, byteCount: bytes.count))
    }
  }

  func channel(_ channel: Channel, received incoming: Span<IncomingMessage>) {
    for index in incoming.indices {
      let message = incoming[index]
      guard !message.isPushCompletion else { continue }
      var bytes = message.payload.array
      if let buffer = message.buffer {
        unsafe bytes += UnsafeRawBufferPointer(
          start: UnsafeRawPointer(bitPattern: UInt(buffer.address)), count: buffer.byteCount)
        channel.returnBuffer(buffer.id)
      }
      let copy = Message(kind: message.kind, tag: message.tag, bytes: bytes)
      if let request = requests.removeValue(forKey: message.tag) {
        request.resume(returning: copy)
      } else {
        let unread = unreadByteCount.add(Self.cost(of: copy), ordering: .relaxed).newValue
        arrivals.yield(copy)
        if unread > Self.unreadLimit { hold(channel) }
      }
    }
  }

  private func hold(_ channel: Channel) {
    channel.holdMessages()
    holding.store(true, ordering: .relaxed)
  }

  private func resume() {
    channel?.resumeMessages()
    holding.store(false, ordering: .relaxed)
  }

  /// What a message takes while it waits, roughly.
  private static func cost(of message: Message) -> Int { message.bytes.count + 64 }

  /// From the reader's task.
  func wasRead(_ message: Message) {
    let cost = Self.cost(of: message)
    let unread = unreadByteCount.subtract(cost, ordering: .relaxed).newValue
    let low = Self.unreadLimit / 2
    guard unread <= low, unread + cost > low else { return }
    service.execute { self.resume() }
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    for index in tokens.indices {
      if let element = lent.removeValue(forKey: tokens[index]) { pool?.giveBack(element) }
    }
    if !waiting.isEmpty { sendWaiting() }
  }

  func channelCanSend(_ channel: Channel) { sendWaiting() }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    closeReason = reason
    self.channel = nil
    for element in lent.values { pool?.giveBack(element) }
    lent = [:]
    let lost = requests.values
    requests = [:]
    for request in lost { request.resume(throwing: reason) }
    if isReconnecting {
      reconnect(because: reason.description)
    } else {
      end(reason)
    }
  }

  // MARK: Again

  private var isReconnecting: Bool { reconnection != nil && !isClosing }

  /// Attempts to open the channel again after a while; for ever, until `close`.
  private func reconnect(because words: String) {
    var generator = SystemRandomNumberGenerator()
    let wait = backoff.next(using: &generator)
    let seconds = Double(wait.nanoseconds / 10_000_000) / 100
    reconnection?.log(
      "attempt \(backoff.attemptCount), next in \(seconds) s, because \(words)")
    Task { [self] in
      try? await Task.sleep(for: wait)
      service.execute { self.attempt() }
    }
  }

  private func attempt() {
    guard isReconnecting, let open else { return end(closeReason ?? .local) }
    open { [self] result in
      switch result {
      case .success(let channel):
        backoff.succeeded()
        opened(channel)
        if isClosing { return channel.close() }
        sendWaiting()
      case .failure(let error): reconnect(because: error.description)
      }
    }
  }

  /// Nothing more will come or go.
  private func end(_ reason: ChannelCloseReason) {
    closeReason = reason
    isClosing = true
    open = nil
    arrivals.finish()
    sendWaiting()
  }
}
