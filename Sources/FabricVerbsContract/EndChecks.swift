import FabricVerbs

extension ContractSuite {
  static let endChecks: [ContractCheck] = [
    ContractCheck("a disconnect flushes both sides, each request once", disconnect),
    ContractCheck("what was acknowledged before a disconnect stays", disconnectAfterWork),
    ContractCheck("posts in the error state are flushed", postsAfterTheEnd),
    ContractCheck("nothing comes from a destroyed queue pair", destroyed),
    ContractCheck("the peer of a destroyed queue pair is told", destroyedPeer),
    ContractCheck("the death of an idle peer is told") { try death($0, requestCount: 0) },
    ContractCheck("the death of a busy peer ends each request once") {
      try death($0, requestCount: 40)
    },
    ContractCheck("the death of a listener ends a connection attempt", deathWhileConnecting),
  ]

  @Sendable private static func disconnect(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    for index in 0..<UInt64(20) {
      try client.receive(1000 + index, offset: 0, 64)
      if index < 10 { try server.receive(2000 + index, offset: 0, 64) }
    }
    // Half of them find a receive; nobody has posted one for the others, where these can wait.
    for index in 0..<UInt64(client.capabilities.sendsWaitForReceives ? 20 : 10) {
      try client.send(index, 8, flags: index % 3 == 0 ? .signaled : [])
    }
    try bench.wait("some arrive") { server.receives.count >= 3 }
    server.queuePair.disconnect()
    server.queuePair.disconnect()
    try bench.wait("both are told") {
      client.disconnectReason != nil && server.disconnectReason != nil
    }
    try expect(server.disconnectReason == .local, "\(String(describing: server.disconnectReason))")
    try expect(client.disconnectReason == .peer, "\(String(describing: client.disconnectReason))")
    bench.settle()
    try expectOnce(client.receives, 1000..<1020)
    try expectOnce(server.receives, 2000..<2010)
    try expect(client.receives.allSatisfy { $0.status == .flushed }, "a receive was not flushed")
    // Unsignalled requests that succeeded are silent; all others end once, in order.
    let ids = client.sends.map(\.id)
    try expect(ids == ids.sorted() && Set(ids).count == ids.count, "sends: \(ids)")
    let arrived = server.receives.filter { $0.status == .success }.count
    let flushed = client.sends.filter { $0.status == .flushed }.map(\.id)
    guard client.capabilities.hasAcknowledgements else { return }
    try expect(flushed.count >= 10 && flushed.last == 19, "flushed: \(flushed)")
    let good = 20 - flushed.count
    try expect(good <= arrived, "\(good) sends succeeded, \(arrived) arrived")
    let signalled = client.sends.filter { $0.status == .success }.map(\.id)
    try expect(
      signalled == (0..<UInt64(good)).filter { $0 % 3 == 0 }, "successes: \(signalled) of \(good)")
  }

  @Sendable private static func disconnectAfterWork(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    client.fill(9, 500)
    try server.receive(1, offset: 1000, 500)
    try client.send(1, 500)
    try bench.wait("the send is acknowledged") { client.sends.count == 1 }
    client.queuePair.disconnect()
    try bench.wait("the receive completes") { server.receives.count == 1 }
    try expect(
      server.receives[0].status == .success && server.holds(9, offset: 1000, 500),
      "an acknowledged message was lost: \(server.receives[0])")
  }

  @Sendable private static func postsAfterTheEnd(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    client.queuePair.disconnect()
    try bench.wait("both are told") {
      client.disconnectReason != nil && server.disconnectReason != nil
    }
    try expect(
      client.queuePair.state == .error && server.queuePair.state == .error, "not in error")
    for index in 0..<UInt64(10) {
      try client.send(index, 8, flags: [])
      try client.receive(index, 8)
    }
    try bench.wait("all are flushed") { client.sends.count == 10 && client.receives.count == 10 }
    try expect(
      (client.sends + client.receives).allSatisfy { $0.status == .flushed }, "not all flushed")
    try expectOnce(client.sends, 0..<10)
    try expectOnce(client.receives, 0..<10)
  }

  @Sendable private static func destroyed(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    for index in 0..<UInt64(10) {
      try server.receive(index, 64)
      try client.receive(index, 64)
      try client.send(index, 8)
    }
    // Some have ended and were not polled, others have not ended.
    bench.settle(polls: false, for: .milliseconds(1))
    client.queuePair.destroy()
    bench.settle()
    try expect(
      client.sends.isEmpty && client.receives.isEmpty,
      "\(client.sends.count + client.receives.count) completions after destroy")
    // Its places in the completion queues are free again.
    client.queuePair = try client.makeQueuePair()
    server.queuePair = try server.makeQueuePair()
    server.receives = []
    try bench.connect()
    for index in 0..<UInt64(60) {
      try server.receive(100 + index, 64)
      try client.send(100 + index, 8)
    }
    try bench.wait("a new one works") { client.sends.count == 60 }
    try expect(
      client.sends.allSatisfy { $0.queuePairNumber == client.queuePair.number }, "another's number")
  }

  @Sendable private static func destroyedPeer(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    try bench.server.receive(1, 64)
    bench.client.queuePair.destroy()
    try bench.wait("the peer is told") { bench.server.disconnectReason != nil }
    try bench.wait("its receive is flushed") { bench.server.receives.count == 1 }
    try expect(bench.server.receives[0].status == .flushed, "\(bench.server.receives[0])")
  }

  private static func death(_ fixture: any ContractFixture, requestCount: UInt64) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    for index in 0..<requestCount {
      try client.receive(1000 + index, 64)
      if index < requestCount / 2 { try server.receive(index, 64) }
    }
    for index in 0..<requestCount { try client.send(index, 8) }
    guard fixture.kill(server.adapter) else {
      throw NotApplicable(words: "the fixture cannot kill an adapter")
    }
    try bench.wait("the death is told within a second", atMost: .seconds(1)) {
      client.poll()
      return client.disconnectReason != nil
    }
    let isTold = client.disconnectReason == .peerDied
    try expect(
      isTold || !client.capabilities.tellsDeath && client.disconnectReason == .peer,
      "\(String(describing: client.disconnectReason))")
    try expect(client.queuePair.state == .error, "not in the error state")
    try bench.wait("all requests end") {
      client.sends.count + client.receives.count >= 2 * Int(requestCount)
    }
    bench.settle()
    try expectOnce(client.sends, 0..<requestCount)
    try expectOnce(client.receives, 1000..<1000 + requestCount)
    let statuses = client.sends.map(\.status)
    let rest = statuses.drop { $0 == .success }.drop { $0 == .transportError }
    try expect(rest.allSatisfy { $0 == .flushed }, "the sends: \(statuses)")
  }

  @Sendable private static func deathWhileConnecting(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench(fixture)
    try bench.startConnecting(timeout: .seconds(2))
    let request = try bench.connectRequest()
    guard fixture.kill(bench.server.adapter) else {
      throw NotApplicable(words: "the fixture cannot kill an adapter")
    }
    try bench.wait("connecting fails") { bench.client.connectError != nil }
    try expect(bench.client.queuePair.state == .error, "not in the error state")
    request.reject(privateData: [])
  }
}
