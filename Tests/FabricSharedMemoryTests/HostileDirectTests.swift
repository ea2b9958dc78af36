import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: hostile direct peers", .serialized)
struct HostileDirectTests {
  /// Whatever the peer's table says, the victim stores only into what the peer opened to writes.
  @Test("SM-50, SM-51: a table of keys full of lies leads the victim nowhere else")
  func lyingKeys() throws {
    let victim = try Victim(.direct)
    let table = try MemoryFile(
      name: "hostile", byteCount: wholePages(RemoteKeyTable.byteCount))
    let view = try table.map(.readWrite)
    // A key to everything.
    let key = try #require(
      RemoteKeyTable(in: view).insert(
        RemoteKeyRecord(address: 0, byteCount: .max, access: .remoteWrite)))
    let open = try MemoryFile(name: "hostile", byteCount: 8192)
    let opened = try open.map(.readWrite)
    let shown = try MemoryFile(name: "hostile", byteCount: 8192)
    let targets: [UInt64] = [
      // At the end of what is open, in what is only shown, in nothing, in the victim's own.
      1 << 44 + 8000, 2 << 44, 3 << 44, .max - 100, 0, victim.memory.address,
    ]
    for target in targets {
      try victim.suffers("a write to \(target)", expecting: nil) { peer in
        try peer.announce(
          table.descriptor, address: 0, byteCount: UInt64(table.byteCount), use: .keys)
        try peer.announce(open.descriptor, byteCount: 8192, use: .writable)
        try peer.announce(shown.descriptor, address: 2 << 44, byteCount: 8192)
        try victim.pollEvents()
        unsafe victim.memory.bytes.initializeMemory(as: UInt8.self, repeating: 7)
        try victim.write(1000, to: target, key)
        #expect(unsafe opened.bytes.allSatisfy { $0 == 0 })
        // What it may write to, it does: the lies were read.
        try victim.write(1000, to: 1 << 44, key)
        #expect(unsafe opened.bytes[..<1000].allSatisfy { $0 == 7 })
        unsafe opened.bytes.initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
    victim.close()
  }

  @Test("SM-50: noise in the table of keys and in what is open harms nobody")
  func noise() throws {
    let victim = try Victim(.direct)
    let table = try MemoryFile(name: "hostile", byteCount: wholePages(RemoteKeyTable.byteCount))
    let view = try table.map(.readWrite)
    for offset in stride(from: 0, to: view.byteCount, by: 8) {
      unsafe SharedWord64(at: view.bytes.baseAddress! + offset).store(.random(in: 0 ... .max))
    }
    let open = try MemoryFile(name: "hostile", byteCount: 8192)
    for _ in 0..<100 {
      try victim.suffers("noise for keys", expecting: nil) { peer in
        try peer.announce(
          table.descriptor, address: 0, byteCount: UInt64(table.byteCount), use: .keys)
        try peer.announce(open.descriptor, byteCount: 8192, use: .writable)
        try victim.pollEvents()
        let slot = Int.random(in: 0..<16384)
        let key = unsafe SharedWord32(at: view.bytes.baseAddress! + 4 * slot).load()
        try victim.write(1000, to: 1 << 44 + 4096, RemoteKey(rawValue: key))
      }
    }
    victim.close()
  }

  @Test("SM-1, SM-50: a table too small, a second table, memory that cannot be written to")
  func badSegments() throws {
    let victim = try Victim(.direct)
    let small = try MemoryFile(name: "hostile", byteCount: 4096)
    let table = try MemoryFile(name: "hostile", byteCount: wholePages(RemoteKeyTable.byteCount))
    let sealed = try MemoryFile(name: "hostile", byteCount: 4096)
    try sealed.sealWrites()
    try victim.suffers("a small table", expecting: "cannot be mapped") {
      try $0.announce(small.descriptor, address: 0, byteCount: 4096, use: .keys)
    }
    try victim.suffers("a second table", expecting: "cannot be mapped") {
      for _ in 0..<2 {
        try $0.announce(
          table.descriptor, address: 0, byteCount: UInt64(table.byteCount), use: .keys)
      }
    }
    try victim.suffers("sealed memory to write to", expecting: "cannot be mapped") {
      try $0.announce(sealed.descriptor, byteCount: 4096, use: .writable)
    }
    victim.close()
  }

  @Test(
    "SM-21, SM-51: a mark that bytes are placed opens nothing",
    arguments: [SharedMemoryOptions.Mode.isolated, .direct])
  func placedMarks(_ mode: SharedMemoryOptions.Mode) throws {
    let victim = try Victim(mode)
    let region = try victim.domain.allocate(byteCount: 4096, access: .remoteRead)
    let good = try #require(victim.memory.remoteKey).rawValue
    let readable = try #require(region.remoteKey).rawValue
    let keys = [good ^ 1, readable] + (mode == .isolated ? [good] : [])
    for key in keys {
      try victim.suffers("a mark", expecting: "refused") { peer in
        let address = key == readable ? region.address : victim.memory.address
        peer.place(
          4 | Record.placedFlag, [UInt64(key) << 32 | 8, address, 1 << 44, 8], at: 0)
      }
    }
    victim.close()
  }

  @Test("SM-52: a peer that never stops writing is given up after 1 s")
  func neverStops() throws {
    let victim = try Victim(.direct)
    let key = try victim.domain.grant(
      .remoteWrite, to: victim.memory, offset: 0, byteCount: 8, only: nil)
    try victim.suffers("writing for ever", expecting: "did not stop writing") { peer in
      peer.segment.copying.store(1)
      let start = MonotonicTime.now
      victim.domain.revoke(key)
      let end = MonotonicTime.now
      #expect(end >= start + .seconds(1) && end < start + .seconds(4))
    }
    victim.close()
  }
}

extension Victim {
  /// Posts a write of this side to its peer's memory.
  fileprivate func write(_ byteCount: Int, to address: UInt64, _ key: RemoteKey) throws {
    let requests = [
      SendRequest(
        id: 1, opcode: .write, elements: ScatterGatherList(memory.element(byteCount: byteCount)),
        remoteAddress: address, remoteKey: key)
    ]
    try queuePair?.postSend(requests.span)
  }
}
