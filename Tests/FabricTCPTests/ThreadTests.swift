import FabricTCP
import FabricVerbs
import TestSupport
import Testing

@Suite("TCP adapter: threads", .serialized)
struct ThreadTests {
  @Test(
    "posting, polling, registering and hanging up come from threads of their own",
    arguments: [TCPOptions.Checksums.always, .never])
  func eachItsOwn(_ checksums: TCPOptions.Checksums) throws {
    var options = TCPOptions()
    options.checksums = checksums
    let client = try Side(TCPAdapter(options))
    let server = try Side.listening(options)
    server.accepts = false
    let sender = try client.makeQueuePair()
    let receiver = try server.makeQueuePair()
    try client.adapter.connect(
      sender, to: FabricAddress(fabric: "tcp", endpoint: server.endpoint), privateData: [],
      timeout: .seconds(5), events: client.events)
    try RawPeer.wait("connected") {
      client.poll()
      server.poll()
      if let request = server.requests.popLast() {
        try request.accept(receiver, privateData: [], events: server.events)
      }
      return client.establishedCount == 1 && server.establishedCount == 1
    }
    let channels = [client.events, server.events]
    let outcome = try ThreadDrill(
      from: .init(sender, client.queue, in: client.domain, client.memory),
      to: .init(receiver, server.queue, in: server.domain, server.memory),
      events: { for channel in channels { while channel.poll() != nil {} } }
    ).run(until: 3000)
    #expect(outcome.early >= 3000 && outcome.werePaired)
    #expect(outcome.sends.ended == outcome.sends.posted)
    #expect(outcome.receives.ended == outcome.receives.posted)
  }
}
