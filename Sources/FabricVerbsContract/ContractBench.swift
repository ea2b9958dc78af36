import FabricPlatform
import FabricVerbs

/// A client and a server, connected or about to be, and waiting that ends.
final class ContractBench {
  let fixture: any ContractFixture
  let address: FabricAddress
  let client: ContractSide
  let server: ContractSide
  var listener: (any Listener)?

  /// Not connected; the server listens.
  init(
    _ fixture: any ContractFixture, client: ContractSide.Shape = .init(),
    server: ContractSide.Shape = .init()
  ) throws {
    self.fixture = fixture
    let pair = try fixture.makePair()
    address = pair.address
    self.client = try ContractSide(pair.client, client)
    self.server = try ContractSide(pair.server, server)
    listener = try pair.server.listen(at: address, events: self.server.channel)
  }

  static func connected(
    _ fixture: any ContractFixture, client: ContractSide.Shape = .init(),
    server: ContractSide.Shape = .init()
  ) throws -> ContractBench {
    let bench = try ContractBench(fixture, client: client, server: server)
    try bench.connect()
    return bench
  }

  func startConnecting(privateData: [UInt8] = [], timeout: Duration = .seconds(5)) throws {
    try client.adapter.connect(
      client.queuePair, to: address, privateData: privateData, timeout: timeout,
      events: client.channel)
  }

  func connect(privateData: [UInt8] = [], answer: [UInt8] = []) throws {
    try startConnecting(privateData: privateData)
    let request = try connectRequest()
    try request.accept(server.queuePair, privateData: answer, events: server.channel)
    try wait("both sides are established") { client.isEstablished && server.isEstablished }
  }

  func connectRequest() throws -> any ConnectionRequest {
    var request: (any ConnectionRequest)?
    try wait("the listener is asked") {
      request = request ?? server.takeConnectRequest()
      return request != nil
    }
    guard let request else { throw ContractViolation("no connect request") }
    return request
  }

  /// Lets time pass and polls both sides until `condition` holds.
  func wait(
    _ words: String, atMost limit: Duration = .seconds(10), polls: Bool = true,
    _ condition: () throws -> Bool
  ) throws {
    let deadline = fixture.now + limit
    var rounds = 0
    while try !condition() {
      // The number of rounds bounds a simulation in which nothing is left to happen.
      rounds += 1
      if fixture.now >= deadline && rounds > 1000 {
        throw ContractViolation(
          "within \(limit) it did not happen that \(words); the client \(client.news), the server \(server.news)"
        )
      }
      pump(polls: polls)
    }
  }

  /// Lets some time pass in which something unwanted may happen.
  func settle(polls: Bool = true, for time: Duration = .milliseconds(20)) {
    let deadline = fixture.now + time
    while fixture.now < deadline { pump(polls: polls) }
  }

  func pump(polls: Bool = true) {
    fixture.pump()
    if polls {
      client.poll()
      server.poll()
    } else {
      client.pollEvents()
      server.pollEvents()
    }
  }

  /// The connection must have failed on both sides after the client's request `id` ended with
  /// `status`; what else it had posted was flushed. Without acknowledgements the request may have
  /// succeeded before, or have been flushed, and the reason is the connection's.
  func expectFailure(
    of id: UInt64, _ status: WorkCompletionStatus, or others: [WorkCompletionStatus] = [],
    isRead: Bool = false
  ) throws {
    try wait("request \(id) ends") { client.sends.contains { $0.id == id } }
    let found = client.sends.first { $0.id == id }
    let isLoose = !client.capabilities.hasAcknowledgements && !isRead
    try expect(
      found.map { $0.status == status || others.contains($0.status) } ?? false
        || isLoose && [.success, .flushed].contains(found?.status),
      "expected \(status), got \(found.map { "\($0.status)" } ?? "none")")
    try wait("both queue pairs are in the error state") {
      client.queuePair.state == .error && server.queuePair.state == .error
    }
    try wait("both sides are told") {
      client.disconnectReason != nil && server.disconnectReason != nil
    }
    if isLoose, case .failure? = client.disconnectReason { return }
    if isLoose, !client.capabilities.hasRefusalReasons, client.disconnectReason == .peer { return }
    try expect(!isLoose, "the reason: \(String(describing: client.disconnectReason))")
  }

  /// The bytes of a write that has completed are in place; without acknowledgements, soon.
  func expectInPlace(_ words: String, _ condition: () -> Bool) throws {
    if client.capabilities.hasAcknowledgements { return try expect(condition(), words) }
    try wait("the write arrives, or else: \(words)", condition)
  }

  /// The client's request came behind one that failed.
  func expectFlushed(_ completion: WorkCompletion) throws {
    let isLoose = !client.capabilities.hasAcknowledgements && completion.status == .success
    try expect(completion.status == .flushed || isLoose, "\(completion)")
  }
}

/// Whether the call is refused for this reason after that many requests.
func expectRefusal(
  _ reason: PostError.Reason, accepted: Int = 0, _ body: () throws(PostError) -> Void
) throws {
  do throws(PostError) {
    try body()
  } catch {
    try expect(
      error.reason == reason && error.acceptedCount == accepted,
      "expected \(accepted) accepted, then \(reason); got: \(error)")
    return
  }
  throw ContractViolation("a request was taken that should be refused: \(reason)")
}

/// Every id of `ids` once, nothing else.
func expectOnce(_ completions: [WorkCompletion], _ ids: some Sequence<UInt64>) throws {
  let got = completions.map(\.id).sorted()
  let wanted = ids.sorted()
  try expect(
    got == wanted, "expected one completion for each of \(wanted.count) requests, got \(got.count)")
}
