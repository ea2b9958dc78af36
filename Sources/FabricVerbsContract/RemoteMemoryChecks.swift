import FabricVerbs

extension ContractSuite {
  static let remoteMemoryChecks: [ContractCheck] = [
    ContractCheck("an RDMA read fetches", read),
    ContractCheck("a fenced request waits for earlier reads", fencedRead),
    ContractCheck("an unknown key is refused") { fixture in
      try refused(fixture) { bench in
        (
          bench.server.memory.address,
          RemoteKey(rawValue: bench.server.memory.remoteKey!.rawValue ^ 1)
        )
      }
    },
    ContractCheck("a revoked key is refused") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        let key = try bench.server.domain.grant(
          .remoteWrite, to: memory, offset: 0, byteCount: 4096, only: nil)
        bench.server.domain.revoke(key)
        return (memory.address, key)
      }
    },
    ContractCheck("a region's own key can be revoked") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        bench.server.domain.revoke(memory.remoteKey!)
        return (memory.address, memory.remoteKey!)
      }
    },
    ContractCheck("a key ends with its region") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        let key = try bench.server.domain.grant(
          .remoteWrite, to: memory, offset: 0, byteCount: 4096, only: nil)
        bench.server.domain.deregister(memory)
        return (memory.address, key)
      }
    },
    ContractCheck("a key granted to another queue pair is refused") { fixture in
      try refused(fixture) { bench in
        guard bench.server.capabilities.hasKeysOfOneConnection else {
          throw NotApplicable(words: "the adapter's keys are good for all of a domain")
        }
        let other = try bench.server.makeQueuePair()
        let key = try bench.server.domain.grant(
          .remoteWrite, to: bench.server.memory, offset: 0, byteCount: 4096, only: other)
        return (bench.server.memory.address, key)
      }
    },
    ContractCheck("a key of another protection domain is refused") { fixture in
      try refused(fixture) { bench in
        let domain = try bench.server.adapter.makeProtectionDomain()
        let region = try domain.allocate(byteCount: 4096, access: [.remoteWrite, .localWrite])
        return (region.address, region.remoteKey!)
      }
    },
    ContractCheck("a write that begins before the region is refused") { fixture in
      try refused(fixture) { ($0.server.memory.address - 1, $0.server.memory.remoteKey!) }
    },
    ContractCheck("a write that ends behind the region is refused") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        return (memory.address + UInt64(memory.byteCount - 99), memory.remoteKey!)
      }
    },
    ContractCheck("a write that begins behind the region is refused") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        return (memory.address + UInt64(memory.byteCount), memory.remoteKey!)
      }
    },
    ContractCheck("an address and length that wrap are refused") { fixture in
      try refused(fixture) { (UInt64.max - 49, $0.server.memory.remoteKey!) }
    },
    ContractCheck("a granted part ends where it was granted") { fixture in
      try refused(fixture) { bench in
        let memory = bench.server.memory
        let key = try bench.server.domain.grant(
          .remoteWrite, to: memory, offset: 1000, byteCount: 99, only: nil)
        return (memory.address + 1000, key)
      }
    },
    ContractCheck("a region without the right to write refuses a write") { fixture in
      try refused(fixture) { bench in
        let region = try bench.server.domain.allocate(
          byteCount: 4096, access: [.localWrite, .remoteRead])
        return (region.address, region.remoteKey!)
      }
    },
    ContractCheck("a region without the right to read refuses a read") { fixture in
      try refused(fixture, .read) { bench in
        let region = try bench.server.domain.allocate(
          byteCount: 4096, access: [.localWrite, .remoteWrite])
        return (region.address, region.remoteKey!)
      }
    },
    ContractCheck("a refused write with immediate consumes no receive as a success") { fixture in
      try refused(fixture, .writeWithImmediate) {
        ($0.server.memory.address - 1, $0.server.memory.remoteKey!)
      }
    },
  ]

  /// A request of 100 bytes to where `target` says must be refused, change nothing, and take the
  /// connection with it.
  private static func refused(
    _ fixture: any ContractFixture, _ opcode: SendOpcode = .write,
    _ target: (ContractBench) throws -> (UInt64, RemoteKey)
  ) throws {
    let bench = try ContractBench.connected(fixture)
    try requireOpcode(opcode, bench)
    let (address, key) = try target(bench)
    let byteCount = bench.server.memory.byteCount
    bench.server.fill(77, byteCount)
    bench.client.fill(1, 100)
    let receive = [ReceiveRequest(id: 1, elements: ScatterGatherList())]
    try bench.server.queuePair.postReceive(receive.span)
    try bench.client.reach(opcode, 1, 100, at: address, key: key)
    do throws(PostError) { try bench.client.send(2, 0) } catch {
      throw ContractViolation("the send after it was refused: \(error)")
    }
    try bench.expectFailure(of: 1, .remoteAccessError, isRead: opcode == .read)
    try bench.wait("all is flushed") {
      bench.client.sends.count == 2 && bench.server.receives.count == 1
    }
    try bench.expectFlushed(bench.client.sends[1])
    try expect(bench.server.receives[0].status != .success, "\(bench.server.receives[0])")
    try expect(bench.server.holds(77, byteCount), "the target's bytes changed")
    try expect(bench.client.holds(1, 100), "the initiator's bytes changed")
  }

  static func requireOpcode(_ opcode: SendOpcode, _ bench: ContractBench) throws {
    let capabilities = bench.client.adapter.capabilities
    if opcode == .read && !capabilities.hasRemoteRead { throw NotApplicable(words: "no reads") }
    if opcode == .writeWithImmediate && !capabilities.hasImmediateWrite {
      throw NotApplicable(words: "no write with immediate")
    }
  }

  @Sendable private static func read(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    try requireOpcode(.read, bench)
    let source = bench.server.memory
    for turn in 1...30 {
      let byteCount = [1, 64, 1000, 20000][turn % 4]
      bench.server.fill(turn, offset: 8, byteCount)
      try bench.client.reach(
        .read, UInt64(turn), offset: 100, byteCount, at: source.address + 8, key: source.remoteKey)
      try bench.wait("read \(turn) completes") { bench.client.sends.count == turn }
      let completion = bench.client.sends[turn - 1]
      try expect(
        completion.status == .success && completion.opcode == .read
          && completion.id == UInt64(turn), "\(completion)")
      try expect(bench.client.holds(turn, offset: 100, byteCount), "the bytes differ")
    }
    try expect(bench.server.receives.isEmpty, "the peer saw a completion")
  }

  @Sendable private static func fencedRead(_ fixture: any ContractFixture) throws {
    let bench = try ContractBench.connected(fixture)
    try requireOpcode(.read, bench)
    let memory = bench.server.memory
    for turn in 1...50 {
      bench.server.fill(turn, 500)
      // What the read fetches is sent back elsewhere at once.
      try bench.client.reach(.read, 1, 500, at: memory.address, key: memory.remoteKey, flags: [])
      try bench.client.reach(
        .write, 2, 500, at: memory.address + 5000, key: memory.remoteKey,
        flags: [.signaled, .fence])
      try bench.wait("turn \(turn) completes") { bench.client.sends.count == turn }
      try bench.expectInPlace("the fence did not hold") {
        bench.server.holds(turn, offset: 5000, 500)
      }
    }
  }
}
