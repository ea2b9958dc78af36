import FabricVerbs

extension ContractSuite {
  static let connectionChecks: [ContractCheck] = [
    ContractCheck("private data travels both ways", privateData),
    ContractCheck("a listener rejects with data", reject),
    ContractCheck("a request dropped unanswered is rejected", dropped),
    ContractCheck("connecting to nobody fails", nobody),
    ContractCheck("a listener that never answers is given up", silence),
    ContractCheck("a closed listener is not there", closedListener),
    ContractCheck("two listeners do not share an address", addressInUse),
    ContractCheck("private data has a limit", privateDataLimit),
    ContractCheck("states before the connection", statesBefore),
    ContractCheck("many connections to one listener", manyConnections),
  ]

  @Sendable private static func privateData(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    let most = bench.client.adapter.capabilities.maximumPrivateDataByteCount
    let question = (0..<most).map { UInt8(truncatingIfNeeded: $0 &* 3) }
    let answer = (0..<most).map { UInt8(truncatingIfNeeded: $0 &* 5 &+ 1) }
    try bench.startConnecting(privateData: question)
    let request = try bench.connectRequest()
    try expect(request.privateData == question, "the listener got other data")
    try request.accept(bench.server.queuePair, privateData: answer, events: bench.server.channel)
    try bench.wait("both are established") {
      bench.client.isEstablished && bench.server.isEstablished
    }
    for event in bench.client.events {
      if case .established(_, let data) = event {
        try expect(data == answer, "the client got other data")
      }
    }
    try expect(
      bench.client.queuePair.state == .readyToSend && bench.server.queuePair.state == .readyToSend,
      "established, and not ready to send")
  }

  private static func expectFailed(
    _ bench: ContractBench, _ words: String, _ matches: (ConnectError) -> Bool
  ) throws {
    try bench.wait("connecting fails") { bench.client.connectError != nil }
    if let error = bench.client.connectError {
      try expect(matches(error), "expected \(words), got: \(error)")
    }
    try expect(bench.client.queuePair.state == .error, "the queue pair is not in the error state")
    bench.settle()
    try expect(bench.client.events.count == 1, "more events: \(bench.client.events.count)")
  }

  @Sendable private static func reject(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    try bench.client.receive(4, 8)
    try bench.startConnecting()
    try bench.connectRequest().reject(privateData: [1, 2, 3])
    try expectFailed(bench, "rejected") { $0 == .rejected([1, 2, 3]) }
    try bench.wait("the receive is flushed") { bench.client.receives.count == 1 }
    try expect(bench.client.receives[0].status == .flushed, "\(bench.client.receives[0])")
  }

  @Sendable private static func dropped(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    try bench.startConnecting()
    _ = try bench.connectRequest()
    try expectFailed(bench, "rejected") {
      if case .rejected = $0 { true } else { false }
    }
  }

  private static func expectUnreachable(_ bench: ContractBench) throws {
    do {
      try bench.startConnecting()
    } catch let error as ConnectError {
      guard isUnreachable(error) else { throw error }
      return
    }
    try expectFailed(bench, "unreachable", isUnreachable)
  }

  /// A process that is being started by another thread holds a closed listener's socket for a moment:
  /// then its end resets whom the kernel had let in.
  private static func isUnreachable(_ error: ConnectError) -> Bool {
    switch error {
    case .unreachable, .turnedAway: true
    default: false
    }
  }

  @Sendable private static func nobody(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    bench.listener = nil
    try expectUnreachable(bench)
  }

  @Sendable private static func closedListener(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    bench.listener?.close()
    try expectUnreachable(bench)
    let again = try bench.server.adapter.listen(at: bench.address, events: bench.server.channel)
    try expect(again.address == bench.address, "listens elsewhere: \(again.address)")
  }

  @Sendable private static func silence(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    try bench.startConnecting(timeout: .milliseconds(200))
    let request = try bench.connectRequest()
    try expectFailed(bench, "timed out") {
      if case .timedOut = $0 { true } else { false }
    }
    // An answer that comes too late finds nobody.
    try? request.accept(bench.server.queuePair, privateData: [], events: bench.server.channel)
    try bench.wait("the late answer fails") {
      bench.server.queuePair.state == .error || bench.server.queuePair.state == .initialized
    }
  }

  @Sendable private static func addressInUse(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    do {
      _ = try bench.server.adapter.listen(at: bench.address, events: bench.server.channel)
    } catch {
      guard case .addressInUse = error else { throw error }
      return
    }
    throw ContractViolation("two listen at \(bench.address)")
  }

  @Sendable private static func privateDataLimit(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    let most = bench.client.adapter.capabilities.maximumPrivateDataByteCount
    let long = [UInt8](repeating: 1, count: most + 1)
    do {
      try bench.startConnecting(privateData: long)
      throw ContractViolation("\(long.count) bytes of private data were taken")
    } catch let error as ConnectError {
      try expect(error == .privateDataTooLong, "\(error)")
    }
    // Nothing has happened to the queue pair.
    try bench.connect()
  }

  @Sendable private static func statesBefore(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    let (client, server) = (bench.client, bench.server)
    try expect(client.queuePair.state == .initialized, "\(client.queuePair.state)")
    try expectRefusal(.notConnected) { () throws(PostError) in try client.send(1, 8) }
    try server.receive(7, 64)
    try bench.connect()
    do {
      try bench.startConnecting()
      throw ContractViolation("a connected queue pair was connected again")
    } catch let error as ConnectError { try expect(error == .invalidState, "\(error)") }
    try client.send(1, 8)
    try bench.wait("the early receive is used") { server.receives.count == 1 }
    try expect(server.receives[0].id == 7, "\(server.receives[0])")
  }

  @Sendable private static func manyConnections(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    var pairs = [(client.queuePair, server.queuePair)]
    for index in 1..<10 {
      client.queuePair = try client.makeQueuePair()
      server.queuePair = try server.makeQueuePair()
      try bench.connect(privateData: [UInt8(index)])
      pairs.append((client.queuePair, server.queuePair))
    }
    try expect(Set(pairs.map(\.0.number)).count == 10, "numbers repeat")
    for (index, pair) in pairs.enumerated() {
      (client.queuePair, server.queuePair) = pair
      try server.receive(UInt64(index), 64)
      try client.send(UInt64(index), 8)
    }
    try bench.wait("all arrive") { server.receives.count == 10 && client.sends.count == 10 }
    for (index, pair) in pairs.enumerated() {
      try expect(
        server.receives.contains {
          $0.id == UInt64(index) && $0.queuePairNumber == pair.1.number && $0.status == .success
        }, "message \(index) came elsewhere")
    }
  }
}
