import FabricFrontEnds
import FabricNBDProtocol
import FabricStorage
import Foundation
import TestSupport
import Testing

@testable import FabricNBD

@Suite("NBD: clients that do wrong")
struct HostileTests {
  @Test("NB-21: another magic number ends the connection, and no other")
  func wrongMagic() throws {
    let server = try TestServer()
    let (good, bad) = (try server.session(), try server.session())
    try bad.send([UInt8](repeating: 0xab, count: 28))
    #expect(bad.seesEnd())
    try good.send(Wire.request(.flush, cookie: 1))
    #expect(try good.simpleReply() == (0, 1))
  }

  @Test("NB-35: clients that go in the middle of anything leave the server whole")
  func cutShort() throws {
    let slow = FaultStore(
      over: try MemoryStore(byteCount: 1 << 20), plan: try FaultPlan(parsing: "delay=1ms"))
    let server = try TestServer([Volume(name: "disk", store: slow)])
    let all =
      Wire.clientFlags + Wire.go("disk")
      + Wire.request(.write, cookie: 1, length: 65536) + [UInt8](repeating: 1, count: 65536)
      + Wire.request(.read, cookie: 2, length: 65536) + Wire.request(.flush, cookie: 3)
    for length in stride(from: 1, to: all.count, by: 997) {
      let client = try server.client()
      _ = client.sendSome(Array(all.prefix(length)))
    }
    let last = try server.session()
    try last.send(Wire.request(.read, cookie: 7, length: 4096))
    #expect(try last.simpleReply() == (0, 7))
  }

  @Test("NB-34: who sends and never reads is not read from for ever, and others are served")
  func neverReads() throws {
    let server = try TestServer()
    let (good, bad) = (try server.session(), try server.session())
    let request = Wire.request(.read, cookie: 1, length: 1 << 20)
    let flood = Array(repeatElement(request, count: 40_000).joined())
    var sent = 0
    // Until the socket takes nothing any more, with the good one served meanwhile.
    while sent < flood.count {
      let count = bad.sendSome(Array(flood[sent...]))
      sent += count
      try good.send(Wire.request(.flush, cookie: 2))
      #expect(try good.simpleReply() == (0, 2))
      if count == 0 { break }
    }
    #expect(sent < flood.count)
  }

  @Test("NB-4: who does not choose is hung up on")
  func silence() throws {
    let server = try TestServer(
      [Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20))]
    ) {
      $0.handshakeTimeout = .milliseconds(100)
    }
    let silent = try server.client()
    let known = try server.session()
    _ = try silent.receive(18)
    try silent.send(Wire.clientFlags)
    #expect(silent.seesEnd())
    try known.send(Wire.request(.flush, cookie: 2))
    #expect(try known.simpleReply() == (0, 2))
  }

  @Test("NB-35: noise of all lengths, in both phases")
  func noise() throws {
    let server = try TestServer()
    var random = SystemRandomNumberGenerator()
    for round in 0..<200 {
      let client = try round % 2 == 0 ? server.client() : server.session()
      var bytes = (0..<Int.random(in: 1...2000)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      // Half of them begin well.
      if round % 4 == 0 { bytes = Wire.clientFlags + Wire.big(NBD.optionMagic) + bytes }
      if round % 4 == 1 { bytes = Wire.big(NBD.requestMagic) + bytes }
      _ = client.sendSome(bytes)
    }
    let last = try server.session()
    try last.send(Wire.request(.flush, cookie: 2))
    #expect(try last.simpleReply() == (0, 2))
  }

  @Test("NB-37: who stops in the middle of a payload is hung up on when others wait for buffers")
  func stalledPayload() throws {
    let path = FileManager.default.temporaryDirectory.appending(
      path: "nbd-stall-\(UUID().uuidString.prefix(8)).img"
    ).path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let store = try FileStore.open(
      path: path, options: FileStore.Options(byteCountIfMissing: 1 << 20))
    let server = try TestServer([Volume(name: "disk", store: store)]) {
      $0.bufferCount = 4
      $0.stallTimeout = .milliseconds(200)
    }
    // Each keeps a buffer, until there are none left for this host.
    let bad = try (0..<2).map { _ in
      let client = try server.session()
      try client.send(
        Wire.request(.write, cookie: 1, length: 65536) + [UInt8](repeating: 1, count: 40_000))
      return client
    }
    let good = try server.session()
    for cookie in 0..<4 as Range<UInt64> {
      try good.send(Wire.request(.read, cookie: cookie, length: 65536))
    }
    for cookie in 0..<4 as Range<UInt64> {
      #expect(try good.simpleReply() == (0, cookie))
      _ = try good.receive(65536)
    }
    for client in bad { #expect(client.seesEnd()) }
  }

  @Test("NB-38: without memory a request fails with ENOMEM, and the connection goes on")
  func withoutMemory() throws {
    struct Nothing: DataMemorySource {
      func makeMemory(byteCount: Int) -> DataMemory? { nil }
    }
    let server = try TestServer(
      [Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20))]
    ) { $0.memory = Nothing() }
    let client = try server.session()
    try client.send(
      Wire.request(.write, cookie: 1, length: 65536) + [UInt8](repeating: 1, count: 65536)
        + Wire.request(.flush, cookie: 2))
    #expect(try client.simpleReply() == (12, 1))
    #expect(try client.simpleReply() == (0, 2))
  }
}
