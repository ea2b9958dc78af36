import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import FabricWire
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import FabricNBD

@Suite("NBD: a connection")
struct ConnectionTests {
  private func pattern(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 / 512) &+ UInt8(truncatingIfNeeded: $0) &+ seed }
  }

  private func file(_ byteCount: Int) throws -> (store: FileStore, path: String) {
    let path = "/tmp/fabric-nbd-\(UUID().uuidString.prefix(8)).img"
    var options = FileStore.Options()
    options.byteCountIfMissing = UInt64(byteCount)
    return (try FileStore.open(path: path, options: options), path)
  }

  @Test("NB-25, NB-30: writes and reads of all kinds, in one go and cut anywhere")
  func simple() throws {
    let server = try TestServer()
    let client = try server.session()
    let data = pattern(8192)
    let requests =
      Wire.request(.write, cookie: 1, offset: 4096, length: 8192) + data
      + Wire.request(.write, flags: .forceUnitAccess, cookie: 2, offset: 65536, length: 4096)
      + data.prefix(4096) + Wire.request(.flush, cookie: 3)
      + Wire.request(.cache, cookie: 4, length: 4096)
    try client.sendPieces(requests)
    var cookies: Set<UInt64> = []
    for _ in 1...4 {
      let (error, cookie) = try client.simpleReply()
      #expect(error == 0)
      cookies.insert(cookie)
    }
    #expect(cookies == [1, 2, 3, 4])
    try client.send(Wire.request(.read, cookie: 5, length: 16384))
    #expect(try client.simpleReply() == (0, 5))
    #expect(
      try client.receive(16384) == [UInt8](repeating: 0, count: 4096) + data
        + [UInt8](repeating: 0, count: 4096))
    try client.send(
      Wire.request(.writeZeroes, flags: .noHole, cookie: 6, offset: 4096, length: 4096)
        + Wire.request(.trim, flags: .forceUnitAccess, cookie: 7, offset: 8192, length: 4096))
    #expect(try Set([client.simpleReply().cookie, client.simpleReply().cookie]) == [6, 7])
    try client.send(Wire.request(.read, cookie: 8, length: 16384))
    #expect(try client.simpleReply() == (0, 8))
    #expect(try client.receive(16384) == [UInt8](repeating: 0, count: 16384))
  }

  @Test("NB-31: structured reads, from memory and from a file with a hole")
  func structured() throws {
    let (store, path) = try file(1 << 20)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let server = try TestServer([
      Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)),
      Volume(name: "file", store: store),
    ])
    for name in ["disk", "file"] {
      let client = try server.session(name, isStructured: true)
      let data = pattern(4096)
      try client.send(Wire.request(.write, cookie: 1, length: 4096) + data)
      #expect(try client.simpleReply() == (0, 1))
      try client.send(Wire.request(.read, flags: .doNotFragment, cookie: 2, length: 4096))
      let chunk = try client.chunk()
      #expect((chunk.isLast, chunk.type, chunk.cookie) == (true, 1, 2))
      #expect(chunk.payload == [UInt8](repeating: 0, count: 8) + data)
      try client.send(Wire.request(.read, cookie: 3, offset: 65536, length: 65536))
      let hole = try client.chunk()
      #expect((hole.isLast, hole.cookie) == (true, 3))
      if name == "file" {
        #expect(hole.type == 2)
        #expect(hole.payload == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0])
      } else {
        #expect(hole.type == 1)
      }
    }
  }

  @Test("NB-33: extents of a file's holes, of memory, and one alone")
  func extents() throws {
    let (store, path) = try file(1 << 20)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let server = try TestServer([
      Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)),
      Volume(name: "file", store: store),
    ])
    let client = try server.session("file", isStructured: true)
    try client.send(Wire.request(.write, cookie: 1, offset: 65536, length: 4096) + pattern(4096))
    #expect(try client.simpleReply() == (0, 1))
    func extents(_ client: PlainClient, _ flags: NBD.CommandFlags = []) throws -> [[UInt32]] {
      try client.send(Wire.request(.blockStatus, flags: flags, cookie: 2, length: 1 << 20))
      let chunk = try client.chunk()
      #expect((chunk.isLast, chunk.type, chunk.cookie) == (true, 5, 2))
      return Wire.view(chunk.payload) { view in
        stride(from: 4, to: view.byteCount, by: 8).map {
          [view.big32(at: $0), view.big32(at: $0 + 4)]
        }
      }
    }
    #expect(try extents(client) == [[65536, 3], [4096, 0], [978_944, 3]])
    #expect(try extents(client, .onlyOne) == [[65536, 3]])
    let memory = try server.session("disk", isStructured: true)
    #expect(try extents(memory) == [[1 << 20, 0]])
  }

  @Test("NB-23: what is refused leaves the connection whole; NB-22, NB-24: with which error")
  func refusals() throws {
    let server = try TestServer([
      Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)),
      Volume(name: "book", store: try MemoryStore(byteCount: 1 << 20), access: .readOnly),
    ])
    let client = try server.session()
    try client.send(
      Wire.request(.write, cookie: 1, offset: 1 << 20, length: 200_000 / 4096 * 4096)
        + pattern(200_000 / 4096 * 4096) + Wire.request(9, 0, 2, 0, 0)
        + Wire.request(.read, cookie: 3, offset: 1, length: 4096)
        + Wire.request(.write, flags: .doNotFragment, cookie: 4, length: 4096) + pattern(4096)
        + Wire.request(.read, cookie: 5, length: 4096))
    #expect(try client.simpleReply() == (28, 1))
    #expect(try client.simpleReply() == (22, 2))
    #expect(try client.simpleReply() == (22, 3))
    #expect(try client.simpleReply() == (22, 4))
    #expect(try client.simpleReply() == (0, 5))
    #expect(try client.receive(4096) == [UInt8](repeating: 0, count: 4096))
    let reader = try server.session("book", isStructured: true)
    try reader.send(
      Wire.request(.write, cookie: 1, length: 4096) + pattern(4096)
        + Wire.request(.read, cookie: 2, offset: 1 << 20, length: 4096))
    #expect(try reader.simpleReply() == (1, 1))
    let chunk = try reader.chunk()
    #expect((chunk.isLast, chunk.type, chunk.cookie) == (true, 0x8001, 2))
    #expect(chunk.payload == [0, 0, 0, 22, 0, 0])
  }

  @Test("NB-32: a bad block is told with its place, behind what is good before it")
  func mediumErrors() throws {
    let base = try MemoryStore(byteCount: 1 << 20)
    let server = try TestServer([Volume(name: "disk", store: base)])
    // Somebody else, over another front end, makes a block unreadable.
    let queue = try base.makeQueue(depth: 1)
    let mark = [BlockRequest(.writeUncorrectable, block: 2, blockCount: 1)]
    #expect(queue.submit(mark.span) == 1)
    queue.drain()
    let client = try server.session(isStructured: true)
    try client.send(Wire.request(.read, cookie: 1, length: 16384))
    let good = try client.chunk()
    #expect((good.isLast, good.type) == (false, 1))
    #expect(good.payload.count == 8 + 8192)
    let bad = try client.chunk()
    #expect((bad.isLast, bad.type) == (true, 0x8002))
    #expect(bad.payload == [0, 0, 0, 5, 0, 0] + [0, 0, 0, 0, 0, 0, 0x20, 0])
    let plain = try server.session()
    try plain.send(Wire.request(.read, cookie: 2, length: 16384))
    #expect(try plain.simpleReply() == (5, 2))
  }

  @Test("NB-26: what came before a disconnection is answered, then it ends")
  func disconnection() throws {
    let slow = FaultStore(
      over: try MemoryStore(byteCount: 1 << 20), plan: try FaultPlan(parsing: "delay=20ms"))
    let server = try TestServer([Volume(name: "disk", store: slow)])
    let client = try server.session()
    let requests = (0..<8).flatMap { Wire.request(.read, cookie: $0, length: 4096) }
    try client.send(requests + Wire.request(.disconnect) + [1, 2, 3])
    var cookies: Set<UInt64> = []
    for _ in 0..<8 {
      let (error, cookie) = try client.simpleReply()
      #expect(error == 0)
      cookies.insert(cookie)
      _ = try client.receive(4096)
    }
    #expect(cookies == Set(0..<8))
    #expect(client.seesEnd())
  }

  @Test("NB-27: a flush that fails is told once to every connection that has written")
  func lostWrites() throws {
    let store = FaultStore(
      over: try MemoryStore(byteCount: 1 << 20),
      plan: try FaultPlan(parsing: "error=flush:flushFailed:nth=1:count=1"))
    let server = try TestServer([Volume(name: "disk", store: store)])
    let (one, two, three) = (
      try server.session(), try server.session(), try server.session()
    )
    for client in [one, two] {
      try client.send(Wire.request(.write, cookie: 1, length: 4096) + pattern(4096))
      #expect(try client.simpleReply() == (0, 1))
    }
    for (client, codes) in [(one, [5, 0]), (two, [5, 0]), (three, [0])] as [(PlainClient, [UInt32])]
    {
      for code in codes {
        try client.send(Wire.request(.flush, cookie: 9))
        #expect(try client.simpleReply() == (code, 9))
      }
    }
  }

  @Test("NB-28: fast zeroes are refused where they would be written; long ones go in pieces")
  func zeroes() throws {
    let store = try MemoryStore(byteCount: 64 << 20)
    let server = try TestServer([Volume(name: "disk", store: store)])
    let client = try server.session()
    try client.send(Wire.request(.write, cookie: 1, offset: 40 << 20, length: 4096) + pattern(4096))
    #expect(try client.simpleReply() == (0, 1))
    try client.send(
      Wire.request(.writeZeroes, flags: .fastZero, cookie: 2, length: 64 << 20)
        + Wire.request(.trim, cookie: 3, length: 64 << 20))
    #expect(try Set([client.simpleReply().cookie, client.simpleReply().cookie]) == [2, 3])
    try client.send(Wire.request(.read, cookie: 4, offset: 40 << 20, length: 4096))
    #expect(try client.simpleReply() == (0, 4))
    #expect(try client.receive(4096) == [UInt8](repeating: 0, count: 4096))
    let refusing = FaultStore(
      over: store, plan: try FaultPlan(parsing: "error=writeZeroes:unsupported:nth=1:count=1"))
    let other = try TestServer([Volume(name: "disk", store: refusing)])
    let second = try other.session()
    try second.send(Wire.request(.writeZeroes, flags: .fastZero, cookie: 5, length: 4096))
    #expect(try second.simpleReply() == (95, 5))
  }

  @Test("NB-34: more than are in flight, and answers out of order")
  func pipelining() throws {
    let slow = FaultStore(
      over: try MemoryStore(byteCount: 1 << 20), plan: try FaultPlan(parsing: "delay=2ms:read"))
    let server = try TestServer([Volume(name: "disk", store: slow)], depth: 4)
    let client = try server.session()
    var cookies: Set<UInt64> = []
    for cookie in 0..<UInt64(100) {
      let isFlush = cookie % 10 == 9
      try client.send(
        Wire.request(isFlush ? .flush : .read, cookie: cookie, length: isFlush ? 0 : 4096))
    }
    for _ in 0..<100 {
      let (error, cookie) = try client.simpleReply()
      #expect(error == 0)
      cookies.insert(cookie)
      if cookie % 10 != 9 { _ = try client.receive(4096) }
    }
    #expect(cookies == Set(0..<100))
  }

  @Test("NB-24: 32 MiB are written and read, more is refused")
  func large() throws {
    let server = try TestServer(memory: 40 << 20)
    let client = try server.session()
    let data = [UInt8](repeating: 0x5a, count: 32 << 20)
    try client.send(Wire.request(.write, cookie: 1, offset: 4096, length: 32 << 20) + data)
    #expect(try client.simpleReply() == (0, 1))
    try client.send(Wire.request(.read, cookie: 2, offset: 4096, length: 32 << 20))
    #expect(try client.simpleReply() == (0, 2))
    #expect(try client.receive(32 << 20) == data)
    try client.send(Wire.request(.read, cookie: 3, length: 32 << 20 + 4096))
    #expect(try client.simpleReply() == (22, 3))
  }

  @Test("NB-41: rights are those of the name nbd")
  func rights() throws {
    let rights = VolumeRights([
      VolumeRights.Rule(host: "nbd", volume: "disk", access: .readOnly),
      VolumeRights.Rule(host: "other", volume: nil, access: .readWrite),
    ])
    let server = try TestServer(
      [
        Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)),
        Volume(name: "mine", store: try MemoryStore(byteCount: 1 << 20)),
      ], rights: rights)
    let client = try server.session()
    try client.send(Wire.request(.write, cookie: 1, length: 4096) + pattern(4096))
    #expect(try client.simpleReply() == (1, 1))
    let other = try server.client()
    try other.send(Wire.clientFlags + Wire.go("mine"))
    let reply = try other.receive(18 + 20)
    #expect(
      reply[18...] == Wire.optionReply(7, NBD.OptionReply.unknown).dropLast(4)[...]
        + reply.suffix(4))
  }
}
