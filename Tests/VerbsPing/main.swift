// A message of 64 bytes there and back between two processes, over bare queue pairs of the RDMA adapter: what perftest's
// `ib_send_lat` measures, for Tests/Guest/checks/latency. Neither end ever sleeps; who connects prints the median of half the
// round trips, in microseconds.
import FabricPlatform
import FabricRDMA
import FabricVerbs
import Foundation

/// One end: each message has a receive, a completion there and one here.
private final class End {
  private let adapter: any Adapter
  private let sends: any CompletionQueue
  private let receives: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let pair: any QueuePair
  private let message: ScatterGatherElement
  private let place: ScatterGatherElement
  private var completions = InlineArray<1, WorkCompletion>(repeating: WorkCompletion())
  /// Kept as long as these are used.
  private let domain: any ProtectionDomain

  init(at address: FabricAddress, isListening: Bool) throws {
    adapter = try RDMAAdapter(for: address, isListening: isListening)
    domain = try adapter.makeProtectionDomain()
    sends = try adapter.makeCompletionQueue(capacity: 16)
    receives = try adapter.makeCompletionQueue(capacity: 16)
    events = try adapter.makeEventChannel()
    pair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: sends, receiveCompletionQueue: receives,
        sendCapacity: 16, receiveCapacity: 16))
    let memory = try domain.allocate(byteCount: 4096, access: .localWrite)
    message = memory.element(byteCount: 64)
    place = memory.element(offset: 2048, byteCount: 64)
    try postReceive()
  }

  func accept(at address: FabricAddress) throws {
    let listener = try adapter.listen(at: address, events: events)
    print("ready")
    fflush(nil)
    try connected()
    listener.close()
  }

  func connect(to address: FabricAddress) throws {
    try adapter.connect(
      pair, to: address, privateData: [], timeout: .seconds(30), events: events)
    try connected()
  }

  private func connected() throws {
    while pair.state != .readyToSend {
      switch events.poll() {
      case .connectRequest(let request):
        try request.accept(pair, privateData: [], events: events)
      case .failed(_, let error): throw error
      default: break
      }
    }
  }

  /// Takes the peer's message, with a receive for the next before it can come.
  func receive() throws {
    wait(receives)
    try postReceive()
  }

  func send() throws {
    let request = InlineArray<1, SendRequest>(
      repeating: SendRequest(id: 0, opcode: .send, elements: ScatterGatherList(message)))
    try pair.postSend(request.span)
  }

  func sent() { wait(sends) }

  private func postReceive() throws {
    let request = InlineArray<1, ReceiveRequest>(
      repeating: ReceiveRequest(id: 0, elements: ScatterGatherList(place)))
    try pair.postReceive(request.span)
  }

  private func wait(_ queue: any CompletionQueue) {
    var space = completions.mutableSpan
    while queue.poll(into: &space) == 0 {}
    guard completions[0].status == .success else {
      fatalError("a message ended with \(completions[0].status)")
    }
  }
}

let words = CommandLine.arguments
guard words.count == 4, ["listen", "connect"].contains(words[1]), let count = Int(words[3]),
  count > 0
else { fatalError("expected listen|connect HOST:PORT MESSAGES") }
let address = FabricAddress(fabric: "rdma", endpoint: words[2])
let isListening = words[1] == "listen"
private let end = try End(at: address, isListening: isListening)
if isListening {
  try end.accept(at: address)
  for _ in 0..<count {
    try end.receive()
    try end.send()
    end.sent()
  }
} else {
  try end.connect(to: address)
  var times: [UInt64] = []
  times.reserveCapacity(count)
  for _ in 0..<count {
    let start = MonotonicTime.now
    try end.send()
    try end.receive()
    times.append(MonotonicTime.now.nanoseconds(since: start) / 2)
    end.sent()
  }
  times.sort()
  print(Double(times[count / 2]) / 1000)
}
