import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import Foundation
import Testing

private func isReadable(_ descriptor: CInt?) -> Bool {
  guard let descriptor else { return false }
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&entry, 1, 0) == 1
}

@Suite("Shared-memory adapter: doorbells")
struct DoorbellTests {
  @Test("SM-45: a doorbell that the event channel takes off the socket still wakes the queue")
  func doorbellTakenByEvents() throws {
    let pair = try ConnectedPair()
    let (client, server) = (pair.client, pair.server)
    let target = try server.domain.allocate(byteCount: 4096, access: .localWrite)
    let source = try client.domain.allocate(byteCount: 4096, access: [])
    try pair.pollEvents()
    let receives = [ReceiveRequest(id: 1, elements: ScatterGatherList(target.element))]
    try server.queuePair.postReceive(receives.span)
    // Both descriptors are quiet before.
    server.queue.arm()
    server.queue.disarm()
    server.queue.arm()
    #expect(!isReadable(server.queue.descriptor))

    let sends = [
      SendRequest(
        id: 2, opcode: .send, elements: ScatterGatherList(source.element(byteCount: 8)))
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
    pair.close()
  }
}
