import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import Foundation
import Testing

@testable import FabricNVMeFabrics

@Suite("NVMe/RDMA")
struct RDMATests {
  @Test("data comes in the capsule, is fetched, and is written to the host (NR-2, NR-3, NR-4)")
  func everyWay() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit).io
    let small = pattern(4096)
    #expect(
      try host.run(
        host.io(Opcode.IO.write, block: 4, data: .inCapsule(byteCount: 4096)), data: small
      ).status == .success)
    let large = pattern(1 << 20, seed: 5)
    host.put(large)
    #expect(
      try host.run(
        host.io(
          Opcode.IO.write, block: 100, count: 256, identifier: 9,
          data: host.data(byteCount: 1 << 20))
      ).status == .success)
    for (block, expected) in [(4, small), (100, large)] as [(UInt64, [UInt8])] {
      host.put([UInt8](repeating: 0, count: expected.count))
      let end = try host.run(
        host.io(
          Opcode.IO.read, block: block, count: UInt32(expected.count / 4096), identifier: 10,
          data: host.data(byteCount: expected.count)))
      #expect(end.status == .success && end.identifier == 10)
      #expect(host.bytes(at: RDMAHost.dataOffset, count: expected.count) == expected)
    }
    host.put(small)
    let compare = host.io(Opcode.IO.compare, block: 4, data: host.data(byteCount: 4096))
    #expect(try host.run(compare).status == .success)
    host.put(large)
    #expect(try host.run(compare).status == .compareFailure)
    var ranges = [UInt8](repeating: 0, count: 32)
    ranges.replaceSubrange(4..<8, with: [1, 0, 0, 0])
    ranges.replaceSubrange(8..<16, with: [4, 0, 0, 0, 0, 0, 0, 0])
    host.put(ranges)
    var manage = host.io(Opcode.IO.datasetManagement, data: host.data(byteCount: 32))
    manage.dword10 = 1
    manage.dword11 = 0b100
    manage.dword12 = 0
    #expect(try host.run(manage).status == .success)
    host.put(small)
    #expect(
      try host.run(host.io(Opcode.IO.read, block: 4, data: host.data(byteCount: 4096))).status
        == .success)
    #expect(
      host.bytes(at: RDMAHost.dataOffset, count: 4096) == [UInt8](repeating: 0, count: 4096))
    let verify = host.io(Opcode.IO.verify, count: 1000)
    #expect(try host.run(verify).status == .success)
    #expect(try host.run(host.io(Opcode.IO.flush)).status == .success)
  }

  @Test("a host is told how far its queue was read, and that of its queue (NR-1)")
  func heads() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit, entryCount: 4).io
    let heads = try (0..<6).map { _ in
      try host.run(host.io(Opcode.IO.flush)).submissionHead
    }
    #expect(heads == [2, 3, 0, 1, 2, 3])
    #expect(host.answer.prefix(4) == [0, 0, 4, 0] && host.answer.count == 32)
  }

  @Test(
    "a connection request that says something wrong is refused with its reason (NR-1)",
    arguments: [(2, 0, 1), (3, 2, 65), (4, 7, 4), (5, 4, 0)] as [(UInt8, Int, UInt8)])
  func refusals(_ wrong: (reason: UInt8, place: Int, value: UInt8)) throws {
    var parameters = ConnectionParameters(queue: 0, hostReceiveCount: 32, hostSendCount: 31).encoded
    parameters[wrong.place] = wrong.value
    try refuses(parameters, wrong.reason)
  }

  @Test("a connection request that is none of a host's is refused (NR-1)")
  func strangers() throws {
    try refuses([], 1)
    try refuses([UInt8](repeating: 0, count: 31), 1)
  }

  private func refuses(_ parameters: [UInt8], _ reason: UInt8) throws {
    let unit = try RDMAUnit()
    let host = try RDMAHost(unit, parameters: parameters)
    #expect(host.refusal == [0, 0, reason, 0])
    #expect(!host.isEstablished)
    // The next one is served.
    _ = try RDMAHostPair(unit)
  }

  @Test("what does not fit ends the command alone (NR-3)")
  func wrongCommands() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit).io
    func expect(
      _ status: Status, _ command: Command, data: [UInt8] = [], _ line: Int = #line
    ) throws {
      let end = try host.run(command, data: data)
      #expect(end.status == status, "line \(line): \(end.status)")
    }
    let page = pattern(4096)
    // A read into a capsule, TCP's descriptor, one that is not known.
    try expect(.descriptorTypeInvalid, host.io(Opcode.IO.read, data: .inCapsule(byteCount: 4096)))
    try expect(.descriptorTypeInvalid, host.io(Opcode.IO.read, data: .transport(byteCount: 4096)))
    try expect(
      .descriptorTypeInvalid,
      host.io(Opcode.IO.write, data: DataPointer(low: 0, high: 4096 | 0x20 << 56)))
    // Data both ways.
    try expect(
      .descriptorTypeInvalid, host.io(Opcode.IO.write, data: host.data(byteCount: 4096)), data: page
    )
    try expect(
      .dataLengthInvalid, host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096)),
      data: Array(page.dropLast()))
    try expect(.dataLengthInvalid, host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096)))
    try expect(
      .dataLengthInvalid, host.io(Opcode.IO.flush, data: .inCapsule(byteCount: 16)),
      data: pattern(16))
    try expect(
      .offsetInvalid, host.io(Opcode.IO.write, data: .inCapsule(offset: 4, byteCount: 4096)),
      data: page)
    try expect(.dataLengthInvalid, host.io(Opcode.IO.read, data: host.data(byteCount: 4095)))
    try expect(.dataLengthInvalid, host.io(Opcode.IO.write, data: host.data(byteCount: 8192)))
    try expect(
      .invalidField,
      host.io(Opcode.IO.read, count: 257, data: host.data(byteCount: 257 * 4096)))
    try expect(.invalidNamespace, host.io(Opcode.IO.read, namespace: 7))
    try expect(.invalidOpcode, host.io(0x55))
    // More than there is room for is right.
    try expect(.success, host.io(Opcode.IO.read, data: host.data(byteCount: 8192)))
  }

  @Test("admin data that has no room, or comes by another way, is refused (NR-3)")
  func adminData() throws {
    let unit = try RDMAUnit()
    let admin = try RDMAHost(unit)
    _ = try admin.becomeAdmin()
    var identify = Command(opcode: Opcode.Admin.identify)
    identify.dword10 = 1
    identify.data = admin.data(byteCount: 4096)
    #expect(try admin.run(identify).status == .success)
    let page = admin.bytes(at: RDMAHost.dataOffset, count: 4096)
    // Keyed descriptors; 64 and 4096 bytes in a capsule, in units of 16.
    #expect(page[536] & 0b100 != 0)
    #expect(Int(page[1792]) | Int(page[1793]) << 8 == (64 + 4096) / 16)
    identify.data = admin.data(byteCount: 4095)
    #expect(try admin.run(identify).status == .dataLengthInvalid)
    identify.data = admin.data(byteCount: 2 << 20)
    #expect(try admin.run(identify).status == .invalidField)
    identify.data = .transport(byteCount: 4096)
    #expect(try admin.run(identify).status == .descriptorTypeInvalid)
  }

  @Test("a command that is too short, or comes with too much, ends the connection (NR-2)")
  func brokenCapsules() throws {
    let unit = try RDMAUnit()
    let short = try RDMAHostPair(unit)
    try short.io.send([UInt8](repeating: 0, count: 63))
    try short.io.awaitEnd()
    let long = try RDMAHostPair(unit)
    try long.io.send([UInt8](repeating: 0, count: 64 + 4097))
    try long.io.awaitEnd()
    // The admin queue's capsules carry nothing.
    let admin = try RDMAHost(unit)
    try admin.send([UInt8](repeating: 0, count: 65))
    try admin.awaitEnd()
    _ = try RDMAHostPair(unit)
  }

  @Test("a key that opens nothing ends the connection, and harms nobody else (NR-5)")
  func wrongKeys() throws {
    let unit = try RDMAUnit()
    let other = try RDMAHostPair(unit)
    for opcode in [Opcode.IO.read, Opcode.IO.write] {
      let host = try RDMAHostPair(unit)
      let key = (host.io.memory.remoteKey?.rawValue ?? 0) ^ 0x5A5A
      try host.io.send(host.io.io(opcode, data: host.io.data(byteCount: 4096, key: key)))
      try host.io.awaitEnd()
      let outside = try RDMAHostPair(unit)
      try outside.io.send(
        outside.io.io(
          opcode, data: outside.io.data(byteCount: 4096, at: RDMAHost.memoryByteCount - 4095)))
      try outside.io.awaitEnd()
    }
    #expect(try other.io.run(other.io.io(Opcode.IO.flush)).status == .success)
  }

  @Test("a queue's commands may all be under way, again and again (NR-2)")
  func fullQueues() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit, entryCount: 64).io
    let page = pattern(4096)
    for round in 0..<20 {
      for number in 0..<64 {
        let isWrite = (round + number) % 3 == 0
        var command = host.io(
          isWrite ? Opcode.IO.write : Opcode.IO.read, block: UInt64(number),
          identifier: UInt16(number),
          data: host.data(byteCount: 4096, at: (2 << 20) + number * 4096))
        if isWrite, number % 2 == 0 { command.data = .inCapsule(byteCount: 4096) }
        try host.send(command, data: command.data.form == .inCapsule ? page : [])
      }
      var seen = Set<UInt16>()
      for _ in 0..<64 {
        let end = try host.receive()
        #expect(end.status == .success)
        seen.insert(end.identifier)
      }
      #expect(seen.count == 64)
    }
  }

  @Test("hosts that go in the middle of commands leave nothing behind (NR-6)")
  func hostsThatGo() throws {
    let unit = try RDMAUnit()
    for round in 0..<8 {
      let host = try RDMAHostPair(unit)
      for number in 0..<32 {
        try host.io.send(
          host.io.io(
            round % 2 == 0 ? Opcode.IO.read : Opcode.IO.write, count: 32,
            identifier: UInt16(number), data: host.io.data(byteCount: 32 * 4096)))
      }
      host.io.queuePair.destroy()
      // With one queue's connection the controller goes on; with the admin queue's it does not.
      host.admin.queuePair.destroy()
    }
    let host = try RDMAHostPair(unit)
    try host.io.wait("the others to be gone") { unit.server.connectionCount == 2 }
    #expect(try host.io.run(host.io.io(Opcode.IO.flush)).status == .success)
  }

  @Test("who says nothing, or nothing more, is hung up on (NR-1)")
  func silence() throws {
    let unit = try RDMAUnit { $0.handshakeTimeout = .milliseconds(200) }
    let silent = try RDMAHost(unit)
    try silent.awaitEnd()
    // A refused Connect is answered first.
    let refused = try RDMAHost(unit)
    #expect(try refused.connect(controller: 5).status == .connectInvalidParameters)
    try refused.awaitEnd()
    let early = try RDMAHost(unit)
    #expect(try early.run(early.enableCommand()).status == .commandSequenceError)
    try early.awaitEnd()
    // One that has connected may be silent for as long as its keep alive says.
    let host = try RDMAHost(unit)
    _ = try host.becomeAdmin(keepAlive: 500)
    try host.awaitEnd()
  }

  @Test("who is too many finds no resources, or takes the place of one who says nothing (NR-1)")
  func limits() throws {
    let unit = try RDMAUnit { $0.connections = 3 }
    let pair = try RDMAHostPair(unit)
    let silent = try RDMAHost(unit)
    #expect(silent.isEstablished)
    let next = try RDMAHost(unit)
    #expect(next.isEstablished)
    try silent.awaitEnd()
    _ = try next.becomeAdmin()
    #expect(try RDMAHost(unit).refusal == [0, 0, 6, 0])
    #expect(try pair.io.run(pair.io.io(Opcode.IO.flush)).status == .success)
  }

  @Test("a queue that is disconnected ends behind its answer; its controller goes on (NR-6)")
  func disconnect() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit)
    #expect(
      try host.io.run(
        Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.disconnect))
      ).status == .success)
    try host.io.awaitEnd()
    #expect(try host.admin.run(Command(opcode: Opcode.Admin.keepAlive)).status == .success)
  }

  @Test("a controller's queues come over the transport that it began with (NV-4)")
  func oneTransport() throws {
    let unit = try RDMAUnit()
    let tcp = try NVMeTCPServer(
      unit.target, layer: unit.layer, service: unit.service,
      addresses: [.internet(try InternetAddress.resolve("127.0.0.1:0")[0])])
    defer { tcp.stop() }
    let controller = try RDMAHost(unit).becomeAdmin()
    guard case .internet(let address) = tcp.addresses[0] else { return }
    let queue = try TCPHost(at: address, subsystem: unit.name)
    try queue.initialize()
    let end = try queue.run(
      queue.connectCommand(queue: 1), data: queue.connectData(controller: controller))
    #expect(end.completion.status == .connectInvalidParameters)
  }

  @Test("a unit stops under load (NR-6)")
  func stop() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit)
    for number in 0..<64 {
      try host.io.send(
        host.io.io(
          Opcode.IO.write, count: 16, identifier: UInt16(number),
          data: host.io.data(byteCount: 16 * 4096)))
    }
    unit.server.stop()
    try host.io.awaitEnd()
    try host.admin.awaitEnd()
  }

  @Test("the discovery log tells how queue pairs are reached (NV-6)")
  func discovery() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHost(unit)
    host.put(host.connectData(subsystem: QualifiedName.discovery))
    var connect = host.connectCommand()
    connect.data = host.data(byteCount: ConnectCommand.byteCount)
    #expect(try host.run(connect).status == .success)
    #expect(try host.run(host.enableCommand()).status == .success)
    var log = Command(opcode: Opcode.Admin.getLogPage)
    log.dword10 = 0x70 | (2048 / 4 - 1) << 16
    log.data = host.data(byteCount: 2048)
    #expect(try host.run(log).status == .success)
    let entry = host.bytes(at: RDMAHost.dataOffset + 1024, count: 1024)
    // RDMA, IPv4, an NVM subsystem; a reliable connection of any provider by the connection manager.
    #expect(entry[0] == 1 && entry[1] == 1 && entry[2] == 2)
    #expect(Array(entry[768..<771]) == [1, 1, 1])
    let port = unit.address.endpoint.split(separator: ":").last.map(String.init) ?? ""
    #expect(String(decoding: entry[32..<64], as: UTF8.self).hasPrefix(port))
    #expect(String(decoding: entry[512..<521], as: UTF8.self) == "127.0.0.1")
  }

  @Test("what happens is told over a queue pair, too (NV-17)")
  func events() throws {
    let unit = try RDMAUnit()
    let admin = try RDMAHost(unit)
    _ = try admin.becomeAdmin()
    var configure = Command(opcode: Opcode.Admin.setFeatures)
    configure.dword10 = 0x0B
    configure.dword11 = 1 << 8
    #expect(try admin.run(configure).status == .success)
    try admin.send(Command(opcode: Opcode.Admin.asynchronousEventRequest, identifier: 77))
    #expect(
      try admin.run(Command(opcode: Opcode.Admin.keepAlive, identifier: 3)).identifier == 3)
    try unit.layer.add(Volume(name: "more", store: try MemoryStore(byteCount: 1 << 20)))
    let event = try admin.receive()
    #expect(event.identifier == 77 && event.status == .success)
    #expect(event.result == 0x2 | 0x04 << 16)
  }
}
