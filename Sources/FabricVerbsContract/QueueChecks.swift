import FabricPlatform
import FabricVerbs

extension ContractSuite {
  static let queueChecks: [ContractCheck] = [
    ContractCheck("a full send queue refuses, and takes again", fullSendQueue),
    ContractCheck("a full receive queue refuses", fullReceiveQueue),
    ContractCheck("a full completion queue refuses, and loses nothing", fullCompletionQueue),
    ContractCheck("every request of a long list ends once", everyRequestOnce),
    ContractCheck("a poll takes no more than it has room for", smallPolls),
    ContractCheck("a shared receive queue serves several queue pairs", sharedReceives),
    ContractCheck("an armed completion queue wakes who waits", armed),
    ContractCheck("operations that the adapter lacks are refused", unsupported),
  ]

  @Sendable private static func fullSendQueue(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture, client: .init(sendCapacity: 8))
    let request = SendRequest(id: 5, opcode: .send, elements: ScatterGatherList())
    let requests = [SendRequest](repeating: request, count: 12)
    // No receive is posted at the peer: nothing can end.
    try expectRefusal(.queueFull, accepted: 8) { () throws(PostError) in
      try bench.client.post(requests)
    }
    try expectRefusal(.queueFull) { () throws(PostError) in try bench.client.post(request) }
    for index in 0..<9 { try bench.server.receive(UInt64(index), 0) }
    try bench.wait("they end") { bench.client.sends.count == 8 }
    try bench.client.post(request)
    try bench.wait("the ninth ends") { bench.client.sends.count == 9 }
  }

  @Sendable private static func fullReceiveQueue(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture, server: .init(receiveCapacity: 8))
    let requests = [ReceiveRequest](
      repeating: ReceiveRequest(id: 1, elements: ScatterGatherList()), count: 9)
    try expectRefusal(.queueFull, accepted: 8) { () throws(PostError) in
      try bench.server.queuePair.postReceive(requests.span)
    }
    try bench.client.send(1, 0)
    try bench.wait("one is consumed") { bench.server.receives.count == 1 }
    try bench.server.receive(2, 0)
  }

  @Sendable private static func fullCompletionQueue(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(
      fixture, client: .init(sendCapacity: 64, sendCompletionCapacity: 8))
    let (client, server) = (bench.client, bench.server)
    let room = client.sendCompletionQueue.capacity
    guard room < 64 else { throw NotApplicable(words: "the least completion queue is too large") }
    for index in 0..<64 { try server.receive(UInt64(index), 0) }
    let request = SendRequest(id: 1, opcode: .send, elements: ScatterGatherList())
    let requests = [SendRequest](repeating: request, count: 64)
    try expectRefusal(.completionQueueFull, accepted: room) { () throws(PostError) in
      try client.post(requests)
    }
    // Not even when all have ended, as long as nobody polls.
    try bench.wait("all arrive", polls: false) {
      server.receives += ContractSide.drain(server.receiveCompletionQueue)
      return server.receives.count == room
    }
    bench.settle(polls: false)
    try expectRefusal(.completionQueueFull) { () throws(PostError) in try client.post(request) }
    try bench.wait("all completions are there") { client.sends.count == room }
    try client.post(request)
    try bench.wait("one more ends") { client.sends.count == room + 1 }
  }

  @Sendable private static func everyRequestOnce(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    let total: UInt64 = 3000
    var sent: UInt64 = 0
    var posted: UInt64 = 0
    try bench.wait("all end", atMost: .seconds(60)) {
      while posted < total && Int(posted) - server.receives.count < 64 {
        try server.receive(posted, 64)
        posted += 1
      }
      while sent < total {
        do throws(PostError) {
          try client.send(sent, Int(sent % 60))
        } catch {
          guard error.reason == .queueFull else { throw error }
          break
        }
        sent += 1
      }
      return client.sends.count >= Int(total) && server.receives.count >= Int(total)
    }
    bench.settle()
    try expectOnce(client.sends, 0..<total)
    try expectOnce(server.receives, 0..<total)
  }

  @Sendable private static func smallPolls(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    for index in 0..<20 {
      try server.receive(UInt64(index), 0)
      try client.send(UInt64(index), 0)
    }
    var got: [WorkCompletion] = []
    try bench.wait("all receives are polled", polls: false) {
      client.sends += ContractSide.drain(client.sendCompletionQueue)
      var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 3)
      var space = buffer.mutableSpan
      let count = server.receiveCompletionQueue.poll(into: &space)
      got += buffer[..<count]
      return got.count == 20
    }
    try bench.wait("the sends complete") { client.sends.count == 20 }
    try expect(got.map(\.id) == Array(0..<20), "out of order")
  }

  @Sendable private static func sharedReceives(_ fixture: any ContractFixture) throws {
    let probe = try fixture.makePair()
    guard probe.server.capabilities.hasSharedReceiveQueue else {
      throw NotApplicable(words: "no shared receive queues")
    }
    let bench = try ContractBench.connected(fixture, server: .init(sharesReceives: true))
    let (client, server) = (bench.client, bench.server)
    let (first, serverFirst) = (client.queuePair, server.queuePair)
    client.queuePair = try client.makeQueuePair()
    server.queuePair = try server.makeQueuePair()
    try bench.connect()
    let (second, serverSecond) = (client.queuePair, server.queuePair)
    for index in 0..<40 { try server.receive(UInt64(index), 64) }
    for index in 0..<40 {
      client.queuePair = index % 2 == 0 ? first : second
      try client.send(UInt64(index), 8, immediate: client.immediate(UInt32(index)))
    }
    try bench.wait("all arrive") { server.receives.count == 40 && client.sends.count == 40 }
    try expectOnce(server.receives, 0..<40)
    for (queuePair, parity) in [(serverFirst, UInt32(0)), (serverSecond, 1)] {
      let own = server.receives.filter { $0.queuePairNumber == queuePair.number }
      try expect(own.count == 20, "queue pair \(queuePair.number) got \(own.count)")
      guard client.capabilities.hasImmediateSend else { continue }
      try expect(
        own.map(\.immediate) == (0..<20).map { $0 * 2 + parity },
        "queue pair \(queuePair.number) got \(own.map(\.immediate))")
    }
    // One connection's end leaves the receives to the other.
    try server.receive(100, 64)
    client.queuePair = first
    first.disconnect()
    try bench.wait("the peer is told") { serverFirst.state == .error }
    client.queuePair = second
    try client.send(100, 8)
    try bench.wait("the other still receives") { server.receives.count == 41 }
    try expect(server.receives[40].status == .success, "\(server.receives[40])")
  }

  @Sendable private static func armed(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    let queue = server.receiveCompletionQueue
    guard let descriptor = queue.descriptor else {
      throw NotApplicable(words: "nothing to wait for")
    }
    let poller = try Poller()
    try poller.add(descriptor, tag: 1)
    for turn in 0..<50 {
      try server.receive(UInt64(turn), 64)
      // Whoever has looked for long is woken like others.
      var got: [WorkCompletion] = []
      for _ in 0..<(turn % 10 == 9 ? 1500 : 0) { got += ContractSide.drain(queue) }
      queue.arm()
      got += ContractSide.drain(queue)
      try expect(got.isEmpty, "a completion came from nowhere")
      try expect(
        poller.wait(timeout: .milliseconds(turn == 0 ? 50 : 0)) { _ in } == 0,
        "readable although nothing has happened")
      try client.send(UInt64(turn), 8)
      // Whoever waits must be woken without polling this queue.
      try bench.wait("the waiter is woken", polls: false) {
        poller.wait(timeout: .milliseconds(10)) { _ in } > 0
      }
      queue.disarm()
      try bench.wait("the completion is there", polls: false) {
        got += ContractSide.drain(queue)
        return got.count == 1
      }
      try bench.wait("the send ends", polls: false) {
        client.sends += ContractSide.drain(client.sendCompletionQueue)
        return client.sends.count == turn + 1
      }
    }
    try expect(
      poller.wait(timeout: .zero) { _ in } == 0, "readable although nobody has armed it")
  }

  @Sendable private static func unsupported(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let memory = bench.server.memory
    let capabilities = bench.client.adapter.capabilities
    for (opcode, isThere) in [
      (SendOpcode.read, capabilities.hasRemoteRead),
      (.writeWithImmediate, capabilities.hasImmediateWrite),
      (.sendWithImmediate, capabilities.hasImmediateSend),
    ] where !isThere {
      try expectRefusal(.unsupported) { () throws(PostError) in
        try bench.client.reach(opcode, 1, 8, at: memory.address, key: memory.remoteKey)
      }
    }
    if !capabilities.hasForeignMemory {
      do {
        _ = try bench.client.domain.register(
          address: 4096, byteCount: 4096, access: .localWrite, owner: nil)
        throw ContractViolation("foreign memory was registered")
      } catch let error as RegistrationError {
        guard case .foreignMemoryUnsupported = error else { throw error }
      }
    }
    // The refusals harm nothing.
    try bench.server.receive(1, 8)
    try bench.client.send(2, 8)
    try bench.wait("a send still works") { bench.server.receives.count == 1 }
  }
}
