import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import Foundation
import Testing

/// One end of a connection, with everything that it needs.
private final class End {
  let adapter: SharedMemoryAdapter
  let domain: any ProtectionDomain
  let queue: any CompletionQueue
  let events: any ConnectionEventChannel
  let queuePair: any QueuePair
  let memory: MemoryRegion
  var isEstablished = false

  init() throws {
    adapter = try SharedMemoryAdapter()
    domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 64)
    events = try adapter.makeEventChannel()
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
        sendCapacity: 8, receiveCapacity: 8))
    memory = try domain.allocate(byteCount: 4096, access: .localWrite)
  }

  func pollEvents() throws {
    while let event = events.poll() {
      switch event {
      case .connectRequest(let request):
        try request.accept(queuePair, privateData: [], events: events)
      case .established: isEstablished = true
      default: break
      }
    }
  }
}

private func isReadable(_ descriptor: CInt?) -> Bool {
  guard let descriptor else { return false }
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&entry, 1, 0) == 1
}

@Suite("Shared-memory adapter: doorbells")
struct DoorbellTests {
  @Test("a doorbell that the event channel takes off the socket still wakes the queue")
  func doorbellTakenByEvents() throws {
    let (client, server) = (try End(), try End())
    let path = "/tmp/fabric-doorbell-\(getpid())"
    let listener = try server.adapter.listen(
      at: FabricAddress(fabric: "shm", endpoint: path), events: server.events)
    try client.adapter.connect(
      client.queuePair, to: listener.address, privateData: [], timeout: .seconds(5),
      events: client.events)
    let deadline = MonotonicTime.now + .seconds(5)
    while !(client.isEstablished && server.isEstablished) && MonotonicTime.now < deadline {
      try client.pollEvents()
      try server.pollEvents()
    }
    try #require(client.isEstablished && server.isEstablished)
    let receives = [ReceiveRequest(id: 1, elements: ScatterGatherList(server.memory.element))]
    try server.queuePair.postReceive(receives.span)
    // Both descriptors are quiet before.
    server.queue.arm()
    server.queue.disarm()
    server.queue.arm()
    #expect(!isReadable(server.queue.descriptor))

    let sends = [
      SendRequest(
        id: 2, opcode: .send, elements: ScatterGatherList(client.memory.element(byteCount: 8)))
    ]
    try client.queuePair.postSend(sends.span)
    #expect(isReadable(server.queue.descriptor))
    try server.pollEvents()
    #expect(isReadable(server.queue.descriptor), "the wake-up was lost")
    server.queue.disarm()
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 4)
    var space = buffer.mutableSpan
    #expect(server.queue.poll(into: &space) == 1)
    server.queue.arm()
    #expect(!isReadable(server.queue.descriptor))
    client.queuePair.destroy()
    server.queuePair.destroy()
    listener.close()
  }
}
