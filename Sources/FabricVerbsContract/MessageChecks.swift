import FabricVerbs

extension ContractSuite {
  static let messageChecks: [ContractCheck] = [
    ContractCheck("a message arrives whole, with one completion on each side", wholeMessage),
    ContractCheck("messages of one queue pair arrive and complete in order", order),
    ContractCheck("a write is in place before a later send completes", writeThenSend),
    ContractCheck("a write is in place before its immediate completes", writeWithImmediate),
    ContractCheck("messages and writes of no bytes", zeroLength),
    ContractCheck("a message longer than the receive fails on both sides", tooLong),
    ContractCheck("inline bytes are taken at the post", inline),
    ContractCheck("unsignalled requests end in silence", unsignalled),
    ContractCheck("two elements are gathered and scattered", twoElements),
    ContractCheck("a message waits for its receive", lateReceive),
    ContractCheck("very many messages of odd sizes keep their bytes", longRun),
  ]

  @Sendable private static func wholeMessage(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    bench.client.fill(3, 1000)
    try bench.server.receive(7, offset: 4096, 2000)
    let immediate = bench.client.immediate(0xDEAD_BEEF)
    try bench.client.send(9, 1000, immediate: immediate)
    try bench.wait("both complete") { bench.client.sends.count + bench.server.receives.count == 2 }
    let received = bench.server.receives[0]
    try expect(
      received.id == 7 && received.status == .success && received.byteCount == 1000
        && received.opcode == .receive && received.hasImmediate == (immediate != nil)
        && (immediate == nil || received.immediate == immediate)
        && received.queuePairNumber == bench.server.queuePair.number,
      "the receive's completion: \(received)")
    let sent = bench.client.sends[0]
    try expect(
      sent.id == 9 && sent.status == .success && sent.opcode == .send
        && sent.queuePairNumber == bench.client.queuePair.number, "the send's: \(sent)")
    try expect(bench.server.holds(3, offset: 4096, 1000), "the bytes differ")
    try expect(bench.server.isZero(offset: 5096, 1000), "bytes behind the message changed")
    bench.settle()
    try expect(
      bench.client.sends.count == 1 && bench.server.receives.count == 1, "more completions came")
  }

  @Sendable private static func order(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let total = 2000
    var posted = 0
    var sent = 0
    try bench.wait("\(total) messages arrive", atMost: .seconds(60)) {
      while posted < total && posted - bench.server.receives.count < 60 {
        try bench.server.receive(UInt64(posted), 64)
        posted += 1
      }
      while sent < posted && sent - bench.client.sends.count < 60 {
        try bench.client.send(
          UInt64(sent), sent % 64, immediate: bench.client.immediate(UInt32(sent)))
        sent += 1
      }
      return bench.server.receives.count == total && bench.client.sends.count == total
    }
    for index in 0..<total {
      let received = bench.server.receives[index]
      try expect(
        received.id == UInt64(index)
          && (!received.hasImmediate || received.immediate == UInt32(index))
          && received.byteCount == UInt32(index % 64), "message \(index): \(received)")
      try expect(bench.client.sends[index].id == UInt64(index), "sends complete out of order")
    }
  }

  @Sendable private static func writeThenSend(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let target = bench.server.memory
    for turn in 1...100 {
      let byteCount = [1, 63, 64, 1000, 4097, 30000][turn % 6]
      bench.client.fill(turn, byteCount)
      try bench.server.receive(UInt64(turn), offset: 60000, 8)
      let write = SendRequest(
        id: UInt64(turn), opcode: .write,
        elements: ScatterGatherList(bench.client.memory.element(byteCount: byteCount)),
        flags: [], remoteAddress: target.address + 16, remoteKey: target.remoteKey!)
      let send = SendRequest(
        id: UInt64(turn), opcode: .send,
        elements: ScatterGatherList(bench.client.memory.element(byteCount: 8)))
      try bench.client.post([write, send])
      // Only the server is polled until the message is there: nothing else may move the bytes.
      try bench.wait("message \(turn) arrives") { bench.server.receives.count == turn }
      try expect(bench.server.holds(turn, offset: 16, byteCount), "write \(turn) came too late")
      try bench.wait("send \(turn) completes") { bench.client.sends.count == turn }
    }
  }

  @Sendable private static func writeWithImmediate(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let target = bench.server.memory
    guard bench.client.adapter.capabilities.hasImmediateWrite else {
      throw NotApplicable(words: "no write with immediate")
    }
    for turn in 1...50 {
      bench.client.fill(turn, 3000)
      let empty = [ReceiveRequest(id: UInt64(turn), elements: ScatterGatherList())]
      try bench.server.queuePair.postReceive(empty.span)
      try bench.client.reach(
        .writeWithImmediate, UInt64(turn), 3000, at: target.address, key: target.remoteKey,
        immediate: UInt32(turn))
      try bench.wait("immediate \(turn) arrives") { bench.server.receives.count == turn }
      let received = bench.server.receives[turn - 1]
      try expect(
        received.opcode == .receiveWriteImmediate && received.hasImmediate
          && received.immediate == UInt32(turn) && received.byteCount == 3000
          && received.id == UInt64(turn), "the completion: \(received)")
      try expect(bench.server.holds(turn, 3000), "write \(turn) came too late")
      try bench.wait("it completes") { bench.client.sends.count == turn }
      try expect(bench.client.sends[turn - 1].opcode == .write, "the opcode at the sender")
    }
  }

  @Sendable private static func zeroLength(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    try bench.server.receive(1, 64)
    try bench.server.receive(2, 0)
    try bench.client.post(SendRequest(id: 1, opcode: .send, elements: ScatterGatherList()))
    try bench.client.reach(
      .write, 2, 0, at: bench.server.memory.address, key: bench.server.memory.remoteKey)
    try bench.client.send(3, 0, flags: [.signaled, .inline])
    try bench.wait("all complete") {
      bench.client.sends.count == 3 && bench.server.receives.count == 2
    }
    try expect(
      bench.client.sends.allSatisfy { $0.status == .success }
        && bench.server.receives.allSatisfy { $0.status == .success && $0.byteCount == 0 },
      "\(bench.client.sends) \(bench.server.receives)")
    try expect(bench.server.isZero(64), "bytes changed")
  }

  @Sendable private static func tooLong(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    bench.client.fill(1, 200)
    try bench.server.receive(1, 100)
    try bench.server.receive(2, 1000)
    try bench.client.send(1, 101)
    try bench.client.send(2, 10)
    try bench.expectFailure(
      of: 1, .lengthError, or: [.remoteInvalidRequest, .remoteOperationError])
    try bench.wait("all is flushed") {
      bench.client.sends.count == 2 && bench.server.receives.count == 2
    }
    try bench.expectFlushed(bench.client.sends[1])
    try expect(
      bench.server.receives.map(\.status) == [.lengthError, .flushed],
      "the receives: \(bench.server.receives)")
    try expect(bench.server.isZero(offset: 100, 1000), "bytes behind the receive changed")
  }

  @Sendable private static func inline(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let most = bench.client.adapter.capabilities.maximumInlineByteCount
    guard most > 0 else { throw NotApplicable(words: "no inline data") }
    try bench.server.receive(1, 4096)
    bench.client.fill(5, most)
    var element = bench.client.memory.element(byteCount: most)
    element.localKey = LocalKey(rawValue: 0)
    try bench.client.post(
      SendRequest(
        id: 1, opcode: .send, elements: ScatterGatherList(element), flags: [.signaled, .inline]))
    bench.client.fill(6, most)
    try bench.wait("it arrives") { bench.server.receives.count == 1 }
    try expect(bench.server.holds(5, most), "the bytes are not those of the post")
    try expectRefusal(.tooLong) { () throws(PostError) in
      try bench.client.send(2, most + 1, flags: [.signaled, .inline])
    }
  }

  @Sendable private static func unsignalled(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    for round in 0..<20 {
      for index in 0..<10 {
        try bench.server.receive(UInt64(index), 64)
        try bench.client.send(UInt64(index), 8, flags: index == 9 ? .signaled : [])
      }
      try bench.wait("round \(round) ends") {
        bench.client.sends.count == round + 1 && bench.server.receives.count == 10 * (round + 1)
      }
      try expect(bench.client.sends[round].id == 9, "an unsignalled request made a completion")
    }
  }

  @Sendable private static func twoElements(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    client.fill(1, 100)
    client.fill(2, offset: 1000, 300)
    let receive = [
      ReceiveRequest(
        id: 1,
        elements: ScatterGatherList(
          server.memory.element(offset: 50, byteCount: 100),
          server.memory.element(offset: 5000, byteCount: 1000)))
    ]
    try server.queuePair.postReceive(receive.span)
    let list = ScatterGatherList(
      client.memory.element(byteCount: 100), client.memory.element(offset: 1000, byteCount: 300))
    try client.post(SendRequest(id: 1, opcode: .send, elements: list))
    try client.post(
      SendRequest(
        id: 2, opcode: .write, elements: list, remoteAddress: server.memory.address + 9000,
        remoteKey: server.memory.remoteKey!))
    try bench.wait("all complete") { client.sends.count == 2 && server.receives.count == 1 }
    try expect(
      server.holds(1, offset: 50, 100) && server.holds(2, offset: 5000, 300), "the message differs")
    try bench.expectInPlace("the write differs") {
      server.holds(1, offset: 9000, 100) && server.holds(2, offset: 9100, 300)
    }
    try expect(server.receives[0].byteCount == 400, "\(server.receives[0])")
  }

  @Sendable private static func lateReceive(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    guard bench.client.capabilities.sendsWaitForReceives else {
      throw NotApplicable(words: "messages do not wait for receives")
    }
    bench.client.fill(8, 100)
    try bench.client.send(1, 100)
    try bench.client.reach(
      .write, 2, 100, at: bench.server.memory.address + 1000, key: bench.server.memory.remoteKey)
    bench.settle()
    try expect(bench.server.queuePair.state == .readyToSend, "the connection did not wait")
    try expect(
      !bench.client.capabilities.hasAcknowledgements
        ? bench.server.isZero(offset: 1000, 100) : !bench.client.sends.contains { $0.id == 2 },
      "a write overtook the waiting message")
    try bench.server.receive(5, 100)
    try bench.wait("the message arrives") {
      bench.server.receives.count == 1 && bench.client.sends.count == 2
    }
    try expect(
      bench.server.receives[0].status == .success && bench.server.holds(8, 100), "the message")
  }

  @Sendable private static func longRun(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let total = fixture.longRunMessageCount
    let (client, server) = (bench.client, bench.server)
    let slotByteCount = 512
    func size(_ index: Int) -> Int { index % 97 == 0 ? 511 : (index &* 7) % 41 }
    var sent = 0
    var seen = 0
    var posted = 0
    try bench.wait("\(total) messages arrive", atMost: .seconds(300)) {
      for completion in server.receives {
        let slot = seen % 64 * slotByteCount
        let fits =
          completion.status == .success && completion.id == UInt64(seen)
          && completion.byteCount == UInt32(size(seen))
        guard fits, server.holds(seen, offset: slot, size(seen)) else {
          throw ContractViolation("message \(seen): \(completion)")
        }
        seen += 1
      }
      server.receives.removeAll(keepingCapacity: true)
      for completion in client.sends where completion.status != .success {
        throw ContractViolation("send: \(completion)")
      }
      client.sends.removeAll(keepingCapacity: true)
      while posted < total && posted - seen < 64 {
        try server.receive(UInt64(posted), offset: posted % 64 * slotByteCount, slotByteCount)
        posted += 1
      }
      while sent < posted {
        let slot = sent % 64 * slotByteCount
        client.fill(sent, offset: slot, size(sent))
        let isInline =
          sent % 3 == 0 && size(sent) <= client.adapter.capabilities.maximumInlineByteCount
        do throws(PostError) {
          try client.send(
            UInt64(sent), offset: slot, size(sent),
            flags: isInline ? [.signaled, .inline] : .signaled)
        } catch {
          guard error.reason == .queueFull else { throw error }
          break
        }
        sent += 1
      }
      return seen == total
    }
  }
}
