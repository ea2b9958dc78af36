import FabricSharedMemory
import FabricVerbs
import TestSupport
import Testing

@Suite("Shared-memory adapter: threads", .serialized)
struct ThreadTests {
  @Test(
    "SM-12, SM-31, SM-46: posting, polling, registering and hanging up come from threads of their own",
    arguments: [SharedMemoryOptions.Mode.isolated, .direct])
  func eachItsOwn(_ mode: SharedMemoryOptions.Mode) throws {
    let pair = try ConnectedPair(mode, mode)
    let (client, server) = (pair.client, pair.server)
    let source = try client.domain.allocate(byteCount: 4096, access: .localWrite)
    let target = try server.domain.allocate(
      byteCount: 8192, access: [.localWrite, .remoteWrite, .remoteRead])
    let outcome = try ThreadDrill(
      from: .init(client.queuePair, client.queue, in: client.domain, source),
      to: .init(server.queuePair, server.queue, in: server.domain, target),
      events: {
        try? client.pollEvents()
        try? server.pollEvents()
      }
    ).run(until: 3000)
    #expect(outcome.early >= 3000 && outcome.werePaired)
    #expect(outcome.sends.ended == outcome.sends.posted)
    #expect(outcome.receives.ended == outcome.receives.posted)
    pair.close()
  }
}
