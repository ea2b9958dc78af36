import FabricRDMA
import FabricVerbs

/// Two queue pairs of one device, connected with each other, and memory for both.
private struct Ends {
  let pair: any QueuePair
  let queue: any CompletionQueue
  let message: ScatterGatherElement
  let target: MemoryRegion
  /// Kept as long as these are used.
  let others: [AnyObject]

  init(at address: FabricAddress) throws {
    let adapter = try RDMAAdapter(for: address, isListening: true)
    let domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 256)
    let other = try adapter.makeCompletionQueue(capacity: 256)
    let events = try adapter.makeEventChannel()
    func makePair(_ queue: any CompletionQueue) throws -> any QueuePair {
      try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
          sendCapacity: 64, receiveCapacity: 64))
    }
    pair = try makePair(queue)
    let acceptor = try makePair(other)
    let listener = try adapter.listen(at: address, events: events)
    try adapter.connect(
      pair, to: address, privateData: [], timeout: .seconds(60), events: events)
    while pair.state != .readyToSend {
      switch events.poll() {
      case .connectRequest(let request):
        try request.accept(acceptor, privateData: [], events: events)
      case .failed(_, let error): throw error
      default: break
      }
    }
    message = try domain.allocate(byteCount: 4096, access: .localWrite).element(byteCount: 64)
    target = try domain.allocate(byteCount: 4096, access: [.localWrite, .remoteWrite])
    others = [domain, other, events, acceptor, listener]
  }
}

/// Writes `count` messages of 64 bytes, `batch` with one doorbell, each with a completion, and takes
/// these; returns how many came.
func sendByAdapter(_ count: Int, atOnce batch: Int, at endpoint: String) throws -> Int {
  let ends = try Ends(at: FabricAddress(fabric: "rdma", endpoint: endpoint))
  defer { withExtendedLifetime(ends) {} }
  let (pair, queue) = (ends.pair, ends.queue)
  let blank = SendRequest(
    id: 0, opcode: .write, elements: ScatterGatherList(ends.message),
    remoteAddress: ends.target.address, remoteKey: ends.target.remoteKey!)
  var requests = InlineArray<64, SendRequest>(repeating: blank)
  var ended = InlineArray<64, WorkCompletion>(repeating: WorkCompletion())
  var sent = 0
  var done = 0
  while done < count {
    // One batch is under way at a time.
    let now = sent > done ? 0 : min(batch, count &- sent)
    for index in 0..<now {
      requests[index] = SendRequest(
        id: UInt64(sent &+ index), opcode: .write, elements: ScatterGatherList(ends.message),
        remoteAddress: ends.target.address, remoteKey: blank.remoteKey)
    }
    if now > 0 { try pair.postSend(requests.span.extracting(first: now)) }
    sent &+= now
    var taken = ended.mutableSpan
    let found = queue.poll(into: &taken)
    for index in 0..<found {
      guard ended[index].status == .success, ended[index].id == UInt64(done) else { return done }
      done &+= 1
    }
  }
  return done
}
