import FabricVerbs

extension ContractSuite {
  static let keyChecks: [ContractCheck] = [
    ContractCheck("keys tell nothing of each other", unguessableKeys),
    ContractCheck("a granted part can be written", grantedPart),
    ContractCheck("a grant stays within the region and its rights", grantsAreBounded),
    ContractCheck("nothing changes after a revocation with writes in flight") { fixture in
      try endsAccess(fixture) { $0.domain.revoke($0.memory.remoteKey!) }
    },
    ContractCheck("nothing changes after a deregistration with writes in flight") { fixture in
      try endsAccess(fixture) { $0.domain.deregister($0.memory) }
    },
    ContractCheck("a local element outside its region is refused") { fixture in
      try refusedLocally(fixture) { client in
        ScatterGatherElement(
          address: client.memory.address + UInt64(client.memory.byteCount) - 10, byteCount: 11,
          localKey: client.memory.localKey)
      }
    },
    ContractCheck("a local element that wraps is refused") { fixture in
      try refusedLocally(fixture) { client in
        ScatterGatherElement(
          address: .max - 4, byteCount: 11, localKey: client.memory.localKey)
      }
    },
    ContractCheck("an unknown local key is refused") { fixture in
      try refusedLocally(fixture) { client in
        ScatterGatherElement(
          address: client.memory.address, byteCount: 11,
          localKey: LocalKey(rawValue: client.memory.localKey.rawValue ^ 0x10))
      }
    },
    ContractCheck("a local key ends with its region") { fixture in
      try refusedLocally(fixture) { client in
        client.domain.deregister(client.memory)
        return client.memory.element(byteCount: 11)
      }
    },
    ContractCheck("a local key of another domain is refused") { fixture in
      try refusedLocally(fixture) { client in
        try client.adapter.makeProtectionDomain().allocate(byteCount: 100, access: .localWrite)
          .element
      }
    },
    ContractCheck("registering nothing is refused", emptyRegistration),
    ContractCheck("fresh memory is zero and aligned to pages", freshMemory),
  ]

  @Sendable private static func unguessableKeys(_ fixture: any ContractFixture) throws {
    let side = try ContractSide(fixture.makePair().server)
    guard side.capabilities.hasUnguessableKeys else {
      throw NotApplicable(words: "the adapter's device numbers its keys")
    }
    var keys: [UInt32] = []
    for _ in 0..<256 {
      keys.append(
        try side.domain.grant(.remoteWrite, to: side.memory, offset: 0, byteCount: 8, only: nil)
          .rawValue)
    }
    try expect(Set(keys).count == 256, "a key was given twice")
    var near = 0
    for (one, other) in zip(keys, keys.dropFirst())
    where min(one &- other, other &- one) < 1 << 16 {
      near += 1
    }
    try expect(near < 8, "\(near) of 255 keys lie close to the one before")
    let bits = keys.reduce(UInt32.max) { $0 & $1 } | ~keys.reduce(0) { $0 | $1 }
    try expect(bits == 0, "some bits are the same in all keys")
  }

  @Sendable private static func grantedPart(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    let key = try server.domain.grant(
      .remoteWrite, to: server.memory, offset: 1000, byteCount: 100, only: server.queuePair)
    client.fill(4, 100)
    try client.reach(.write, 1, 100, at: server.memory.address + 1000, key: key)
    try bench.wait("it completes") { client.sends.count == 1 }
    try expect(client.sends[0].status == .success, "\(client.sends[0])")
    try bench.expectInPlace("the bytes differ") { server.holds(4, offset: 1000, 100) }
    try expect(server.isZero(1000) && server.isZero(offset: 1100, 1000), "its neighbours changed")
  }

  @Sendable private static func grantsAreBounded(_ fixture: any ContractFixture) throws {
    let side = try ContractSide(fixture.makePair().server)
    let limited = try side.domain.allocate(byteCount: 4096, access: [.localWrite, .remoteRead])
    let attempts: [(AccessRights, MemoryRegion, Int, Int)] = [
      (.remoteWrite, side.memory, 0, side.memory.byteCount + 1),
      (.remoteWrite, side.memory, side.memory.byteCount, 1),
      (.remoteWrite, side.memory, -1, 10),
      (.remoteWrite, side.memory, 10, .max),
      (.remoteWrite, limited, 0, 10),
    ]
    for (access, region, offset, byteCount) in attempts {
      do {
        _ = try side.domain.grant(
          access, to: region, offset: offset, byteCount: byteCount, only: nil)
      } catch {
        try expect(error == .notWithinRegion, "\(error)")
        continue
      }
      throw ContractViolation("granted \(byteCount) bytes from \(offset)")
    }
  }

  /// Ends the access in the middle of many writes: after `body` returns no byte changes, and every
  /// write ends once.
  private static func endsAccess(
    _ fixture: any ContractFixture, _ body: (ContractSide) -> Void
  ) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    let target = server.memory
    var posted: UInt64 = 0
    for _ in 0..<60 {
      client.fill(Int(posted) + 1, offset: Int(posted) * 1000, 1000)
      try client.reach(
        .write, posted, offset: Int(posted) * 1000, 1000, at: target.address, key: target.remoteKey)
      posted += 1
    }
    try bench.wait("some writes complete") { client.sends.count > 5 }
    body(server)
    let after = server.contents(of: target, target.byteCount)
    try bench.wait("all writes end") {
      // Where all were done already, one more shows that the access has ended.
      if client.sends.count == Int(posted), client.queuePair.state == .readyToSend {
        try client.reach(.write, posted, 1000, at: target.address, key: target.remoteKey)
        posted += 1
      }
      return client.sends.count == Int(posted)
        && (client.capabilities.hasAcknowledgements || client.disconnectReason != nil)
    }
    try expect(
      server.contents(of: target, target.byteCount) == after, "a byte changed after the end")
    try expectOnce(client.sends, 0..<posted)
    guard client.capabilities.hasAcknowledgements else { return }
    let good = client.sends.prefix { $0.status == .success }.count
    let rest = client.sends.dropFirst(good)
    try expect(
      rest.first?.status == .remoteAccessError
        && rest.dropFirst().allSatisfy { $0.status == .flushed },
      "after \(good) successes: \(rest.map(\.status))")
  }

  /// The element must be refused at the post, or the request fail on this side; the peer sees none
  /// of it.
  private static func refusedLocally(
    _ fixture: any ContractFixture, _ element: (ContractSide) throws -> ScatterGatherElement
  ) throws {
    let bench = try ContractBench.connected(fixture)
    let (client, server) = (bench.client, bench.server)
    try server.receive(1, 100)
    let request = SendRequest(
      id: 1, opcode: .send, elements: ScatterGatherList(try element(client)))
    do throws(PostError) {
      try client.post(request)
    } catch {
      try expect(error.reason == .invalidElement && error.acceptedCount == 0, "\(error)")
      let receive = [ReceiveRequest(id: 2, elements: request.elements)]
      try expectRefusal(.invalidElement) { () throws(PostError) in
        try client.queuePair.postReceive(receive.span)
      }
      return
    }
    try bench.wait("it ends") { client.sends.count == 1 }
    try expect(client.sends[0].status == .localProtectionError, "\(client.sends[0])")
    try bench.wait("the peer's receive is flushed") { server.receives.count == 1 }
    try expect(server.receives[0].status == .flushed, "\(server.receives[0])")
  }

  @Sendable private static func emptyRegistration(_ fixture: any ContractFixture) throws {
    let side = try ContractSide(fixture.makePair().client)
    for byteCount in [0, -1] {
      do {
        _ = try side.domain.allocate(byteCount: byteCount, access: .localWrite)
      } catch {
        try expect(error == .emptyOrWrapping, "\(error)")
        continue
      }
      throw ContractViolation("memory of \(byteCount) bytes was made")
    }
    guard side.adapter.capabilities.hasForeignMemory else { return }
    do {
      _ = try side.domain.register(
        address: .max - 10, byteCount: 100, access: .localWrite, owner: nil)
    } catch {
      try expect(error == .emptyOrWrapping, "\(error)")
      return
    }
    throw ContractViolation("a range that wraps was registered")
  }

  @Sendable private static func freshMemory(_ fixture: any ContractFixture) throws {
    let side = try ContractSide(fixture.makePair().client)
    try expect(side.memory.address % 4096 == 0, "the memory begins at \(side.memory.address)")
    try expect(side.isZero(side.memory.byteCount), "the memory is not zero")
    let quiet = try side.domain.allocate(byteCount: 100, access: .localWrite)
    try expect(quiet.remoteKey == nil, "a remote key without remote rights")
    try expect(side.memory.remoteKey != nil, "no remote key in spite of remote rights")
  }
}
