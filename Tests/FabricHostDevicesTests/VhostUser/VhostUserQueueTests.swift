import FabricPlatform
import TestMachine
import Testing

@testable import FabricHostDevices

/// A queue of a machine, and the device's side of it.
private struct QueuePairing {
  let memory: MachineMemory
  let guest: GuestMemory
  let driver: MachineQueue
  let ring: SplitQueue
  let chain = DescriptorChain()

  init(size: Int = 8, features: DeviceFeatures = [.eventIndex, .indirectDescriptors]) throws {
    memory = try MachineMemory(byteCount: 1 << 20)
    guest = try memory.guestMemory()
    driver = MachineQueue(
      memory, size: size, base: 0, hasEventIndex: features.contains(.eventIndex))
    ring = try SplitQueue(
      size: size, addresses: driver.addresses, base: 0, features: features, memory: guest)
  }

  /// Takes and reads the next chain.
  func next() throws(QueueFault) -> Int? {
    guard let head = try ring.take() else { return nil }
    try chain.read(head, of: ring, guest)
    return head
  }

  func fault() -> QueueFault? {
    do throws(QueueFault) {
      _ = try next()
      return nil
    } catch { return error }
  }
}

@Suite("vhost-user: split queues")
struct VhostUserQueueTests {
  private let read = MachinePiece(offset: 0x10000, count: 16)
  private let write = MachinePiece(offset: 0x20000, count: 512, isWritable: true)

  @Test("VU-30: a queue whose parts are not in the guest's memory, or not aligned, is refused")
  func places() throws {
    let pair = try QueuePairing()
    let good = pair.driver.addresses
    var bad: [QueueAddresses] = []
    for offset in [UInt64(1), 1 << 30, .max] {
      var one = good
      one.descriptors &+= offset
      bad.append(one)
      one = good
      one.available &+= offset
      bad.append(one)
      one = good
      one.used &+= offset
      bad.append(one)
    }
    var end = good
    end.used = MachineMemory.userBase + UInt64(pair.memory.mapping.byteCount) - 8
    for addresses in bad + [end] {
      #expect(throws: VhostUserFault.self) {
        try SplitQueue(
          size: 8, addresses: addresses, base: 0, features: [], memory: pair.guest)
      }
    }
  }

  @Test("VU-31 to VU-33: chains come in order, are given back in any, and the indexes wrap")
  func wraps() throws {
    let pair = try QueuePairing(size: 4)
    var taken: [Int] = []
    for round in 0..<70_000 {
      let head = pair.driver.add([read, write])
      #expect(try pair.next() == head)
      taken.append(head)
      guard taken.count == 2 else { continue }
      pair.ring.give(taken[1], byteCount: UInt32(round))
      pair.ring.give(taken[0], byteCount: 7)
      _ = pair.ring.publish()
      let ends = pair.driver.reap()
      guard ends.map(\.head) == taken.reversed(), ends[0].byteCount == UInt32(round) else {
        Issue.record("round \(round): \(ends) of \(taken)")
        return
      }
      taken = []
    }
    #expect(pair.ring.takenCount == 0)
  }

  @Test("VU-32: a chain's pieces are what is read and then what is written")
  func pieces() throws {
    let pair = try QueuePairing()
    pair.driver.add([read, MachinePiece(offset: 0x11000, count: 100), write])
    _ = try pair.next()
    #expect(pair.chain.count == 3)
    #expect(pair.chain.readableCount == 2)
    #expect(pair.chain.byteCount(isWritable: false) == 116)
    #expect(pair.chain.byteCount(isWritable: true) == 512)
    #expect(pair.chain.lastWritableByte == pair.memory.mapping.address + 0x20000 + 511)
  }

  @Test("VU-32: a table of indirect descriptors is the same")
  func indirect() throws {
    let pair = try QueuePairing()
    let many = (0..<100).map {
      MachinePiece(offset: 0x20000 + $0 * 4096, count: 4096, isWritable: true)
    }
    pair.driver.add([read] + many, table: 0x4000)
    _ = try pair.next()
    #expect(pair.chain.count == 101)
    #expect(pair.chain.byteCount(isWritable: true) == 409_600)
  }

  @Test("VU-32, VU-36: hostile chains are told from good ones, each with its reason")
  func hostile() throws {
    func fault(
      features: DeviceFeatures = [.indirectDescriptors], _ body: (QueuePairing) -> Void
    ) throws -> QueueFault? {
      let pair = try QueuePairing(features: features)
      body(pair)
      return pair.fault()
    }
    // A loop of two, and of one.
    #expect(
      try fault {
        $0.driver.describe(0, read, next: 1)
        $0.driver.describe(1, read, next: 0)
        $0.driver.offer(0)
      } == .chainLoops)
    #expect(
      try fault {
        $0.driver.describe(3, read, next: 3)
        $0.driver.offer(3)
      } == .chainLoops)
    #expect(try fault { $0.driver.offer(8) } == .head(8))
    #expect(
      try fault {
        $0.driver.describe(0, read, next: 9)
        $0.driver.offer(0)
      } == .next(9))
    #expect(
      try fault {
        $0.memory.put(UInt16(9), at: $0.driver.available + 2)
      } == .availableIndex(9))
    // Outside the memory, at its end, and wrapping.
    for offset in [1 << 30, 1 << 20, (1 << 20) - 8, -(1 << 40)] {
      let piece = MachinePiece(offset: offset, count: 16)
      let found = try fault { $0.driver.add([piece, write]) }
      guard case .address = found else {
        Issue.record("\(offset) gives \(String(describing: found))")
        continue
      }
    }
    #expect(try fault { $0.driver.add([write, read]) } == .order)
  }

  @Test("VU-32, VU-36: hostile tables of indirect descriptors")
  func hostileTables() throws {
    func fault(
      flags: UInt16 = 4, count: Int, hasIndirect: Bool = true, _ fill: (MachineQueue) -> Void
    ) throws -> QueueFault? {
      let pair = try QueuePairing(features: hasIndirect ? [.indirectDescriptors] : [])
      fill(pair.driver)
      pair.driver.describe(
        0, MachinePiece(offset: 0x4000, count: count), next: nil, flags: flags)
      pair.driver.offer(0)
      return pair.fault()
    }
    #expect(try fault(count: 0) { _ in } == .indirectTable)
    #expect(try fault(count: 24) { _ in } == .indirectTable)
    #expect(try fault(flags: 5, count: 16) { _ in } == .indirectTable)
    #expect(try fault(count: 16, hasIndirect: false) { _ in } == .indirectTable)
    #expect(try fault(count: 257 * 16) { _ in } == .chainTooLong)
    #expect(
      try fault(count: 16) { $0.describe(0, read, next: nil, flags: 4, in: 0x4000) }
        == .indirectTable)
    #expect(try fault(count: 32) { $0.describe(0, read, next: 2, in: 0x4000) } == .next(2))
    #expect(try fault(count: 32) { $0.describe(0, read, next: 0, in: 0x4000) } == .chainLoops)
    let far = MachinePiece(offset: 1 << 40, count: 4096)
    let found = try fault(count: 16) { $0.describe(0, far, next: nil, in: 0x4000) }
    guard case .address = found else {
      Issue.record("a far address gives \(String(describing: found))")
      return
    }
  }

  @Test("VU-36: a head that is under way cannot be made available again")
  func headInUse() throws {
    let pair = try QueuePairing()
    let head = pair.driver.add([read])
    _ = try pair.next()
    pair.driver.offer(head)
    #expect(pair.fault() == .headInUse(UInt16(head)))
  }

  @Test("VU-32: what the guest changes after a chain was read changes nothing")
  func readOnce() throws {
    let pair = try QueuePairing()
    pair.driver.add([read, write], table: 0x4000)
    _ = try pair.next()
    pair.memory.fill(0xFF, at: 0x4000, count: 32)
    #expect(pair.chain.byteCount(isWritable: true) == 512)
  }

  @Test("VU-34: with an event index a call is due when the index passes it, also around its end")
  func eventIndex() throws {
    let pair = try QueuePairing(size: 8)
    func use(_ count: Int) throws -> Bool {
      for _ in 0..<count { pair.driver.add([read]) }
      for _ in 0..<count { pair.ring.give(try #require(try pair.next()), byteCount: 0) }
      let calls = pair.ring.publish()
      _ = pair.driver.reap()
      return calls
    }
    // The first time whatever is asked: calls may have been lost before.
    #expect(try use(1))
    for _ in 0..<20_000 {
      pair.driver.wantCall(after: 3)
      guard try !use(2), try use(1), try !use(1) else {
        Issue.record("a call is wrong at \(pair.driver.usedIndex)")
        return
      }
    }
  }

  @Test("VU-34: without, the driver's flag says whether it wants calls")
  func callFlag() throws {
    let pair = try QueuePairing(features: [])
    func use() throws -> Bool {
      pair.driver.add([read])
      pair.ring.give(try #require(try pair.next()), byteCount: 0)
      let calls = pair.ring.publish()
      _ = pair.driver.reap()
      return calls
    }
    #expect(try use())
    pair.memory.put(UInt16(1), at: pair.driver.available)
    #expect(try !use())
    pair.memory.put(UInt16(0), at: pair.driver.available)
    #expect(try use())
  }

  @Test("VU-35: kicks are asked for before sleep, and spared while the ring is looked at")
  func kicks() throws {
    for features: DeviceFeatures in [[.eventIndex], []] {
      let pair = try QueuePairing(features: features)
      pair.ring.spareKicks()
      pair.driver.add([read])
      _ = pair.driver.mustKick
      pair.driver.add([read])
      #expect(!pair.driver.mustKick)
      while try pair.next() != nil {}
      pair.ring.askForKicks()
      pair.driver.add([read])
      #expect(pair.driver.mustKick)
    }
  }
}
