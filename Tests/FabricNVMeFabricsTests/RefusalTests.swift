import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricWire
import TestSupport
import Testing

@Suite("NVMe/TCP: what is refused")
struct RefusalTests {
  /// The last words of the controller, and the end.
  private func terminate(_ host: TCPHost) throws -> (FatalError.Status?, UInt32) {
    let pdu = try host.receive()
    #expect(pdu.kind == .controllerTerminate && pdu.common.headerByteCount == 24)
    #expect(host.client.seesEnd())
    return withView(pdu.header) {
      (FatalError.Status(rawValue: $0.uint16(at: 8)), $0.uint32(at: 10))
    }
  }

  private func expectEnd(
    _ status: FatalError.Status, _ information: UInt32? = nil,
    at location: SourceLocation = #_sourceLocation, _ send: (TCPHost) throws -> Void
  ) throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit).io
    try send(host)
    let (found, place) = try terminate(host)
    #expect(found == status, sourceLocation: location)
    if let information { #expect(place == information, sourceLocation: location) }
  }

  @Test("a PDU that is none ends the connection with what is wrong (NT-2)")
  func headers() throws {
    func changed(_ host: TCPHost, _ index: Int, _ value: UInt8) -> [UInt8] {
      var bytes = host.capsule(host.io(Opcode.IO.flush))
      bytes[index] = value
      return bytes
    }
    try expectEnd(.invalidHeaderField, 0) { try $0.client.send(changed($0, 0, 0x20)) }
    try expectEnd(.invalidHeaderField, 0) { try $0.client.send(changed($0, 0, 0x05)) }
    try expectEnd(.sequenceError) { try $0.client.send(changed($0, 0, 0x00)) }
    try expectEnd(.invalidHeaderField, 2) { try $0.client.send(changed($0, 2, 71)) }
    try expectEnd(.invalidHeaderField, 4) { try $0.client.send(changed($0, 4, 71)) }
    try expectEnd(.invalidHeaderField, 3) { try $0.client.send(changed($0, 4, 76)) }
    try expectEnd(.dataOutOfRange, 4) {
      try $0.client.send(
        $0.capsule(
          $0.io(Opcode.IO.write, count: 8, data: .inCapsule(byteCount: 32768)),
          data: pattern(32768)))
    }
  }

  @Test("data that was not asked for ends the connection (NT-4)")
  func hostData() throws {
    let data = pattern(4096)
    func ask(_ host: TCPHost) throws -> PDU.Transfer {
      try host.client.send(
        host.capsule(
          host.io(Opcode.IO.write, count: 8, data: .transport(byteCount: 32768))))
      return try host.receive().transfer
    }
    func part(_ asked: PDU.Transfer, _ change: (inout PDU.Transfer) -> Void) -> PDU.Transfer {
      var part = PDU.Transfer(command: asked.command, tag: asked.tag, offset: 0, byteCount: 4096)
      change(&part)
      return part
    }
    try expectEnd(.invalidHeaderField, 10) { host in
      try host.client.send(
        host.hostData(
          PDU.Transfer(command: 1, tag: 3, offset: 0, byteCount: 4096), data, isLast: false))
    }
    for change in [{ $0.tag &+= 1 }, { $0.command &+= 1 }, { $0.tag = 0xFFFF }]
      as [(inout PDU.Transfer) -> Void]
    {
      try expectEnd(.invalidHeaderField, 10) { host in
        let asked = try ask(host)
        try host.client.send(host.hostData(part(asked, change), data, isLast: false))
      }
    }
    try expectEnd(.dataOutOfRange, 12) { host in
      let asked = try ask(host)
      try host.client.send(host.hostData(part(asked) { $0.offset = 4096 }, data, isLast: false))
    }
    try expectEnd(.invalidHeaderField, 1) { host in
      let asked = try ask(host)
      try host.client.send(host.hostData(part(asked) { _ in }, data, isLast: true))
    }
    try expectEnd(.invalidHeaderField, 4) { host in
      let asked = try ask(host)
      try host.client.send(
        host.hostData(part(asked) { $0.byteCount = 4092 }, data, isLast: false))
    }
  }

  @Test("a wrong digest of a header ends the connection (NT-5)")
  func headerDigest() throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit, headerDigest: true).io
    var bytes = host.capsule(host.io(Opcode.IO.flush))
    bytes[20] ^= 1
    try host.client.send(bytes)
    #expect(try terminate(host).0 == .headerDigestError)
  }

  @Test("nothing comes before ICReq, and nothing but Connect behind it (NT-1)")
  func order() throws {
    let unit = try TCPUnit()
    let eager = try TCPHost(unit)
    try eager.client.send(eager.capsule(Command(opcode: 0)))
    #expect(try terminate(eager).0 == .sequenceError)
    let host = try TCPHost(unit)
    let answer = try host.initialize()
    #expect(answer.version == 0 && answer.alignment == 0 && answer.limit >= 4096)
    #expect(
      try host.run(Command(opcode: Opcode.Admin.identify)).completion.status
        == .commandSequenceError)
    #expect(
      try host.run(host.connectCommand(), data: [1, 2, 3, 4]).completion.status
        == .dataLengthInvalid)
    let wrong = try host.run(
      host.connectCommand(), data: host.connectData(subsystem: "nqn.2024-01.org.example:none"))
    #expect(wrong.completion.status == .connectInvalidParameters)
    #expect(host.client.seesEnd())
    let other = try TCPHost(unit)
    var request = PDU.Initialize()
    request.version = 1
    try other.client.send(encoded(128) { request.encode(.initializeRequest, into: $0) })
    let (status, place) = try terminate(other)
    #expect(status == .unsupportedParameter && place == 8)
  }

  @Test("a bad field ends its command with a status, and the connection goes on (NV-12, NV-23)")
  func statuses() throws {
    let unit = try TCPUnit([
      ("disk", try MemoryStore(byteCount: 16 << 20)),
      ("fixed", try MemoryStore(byteCount: 1 << 20, isReadOnly: true)),
    ])
    let host = try HostPair(unit).io
    let block = DataPointer.transport(byteCount: 4096)
    func expect(
      _ status: Status, _ command: Command, data: [UInt8] = [],
      at location: SourceLocation = #_sourceLocation
    ) throws {
      let end = try host.run(command, data: data).completion
      #expect(
        end.status == status && end.identifier == command.identifier, sourceLocation: location)
    }
    try expect(.invalidOpcode, host.io(0x0E, data: .inCapsule(byteCount: 16)), data: pattern(16))
    try expect(.invalidNamespace, host.io(Opcode.IO.read, namespace: 3, data: block))
    try expect(.invalidNamespace, host.io(Opcode.IO.flush, namespace: .max))
    try expect(.lbaOutOfRange, host.io(Opcode.IO.read, block: 4096, data: block))
    try expect(.lbaOutOfRange, host.io(Opcode.IO.read, block: .max, data: block))
    try expect(.dataLengthInvalid, host.io(Opcode.IO.read, count: 2, data: block))
    try expect(
      .invalidField,
      host.io(Opcode.IO.read, count: 512, data: .transport(byteCount: 2 << 20)))
    try expect(.descriptorTypeInvalid, host.io(Opcode.IO.read, data: .init(low: 0, high: 4096)))
    try expect(
      .dataLengthInvalid, host.io(Opcode.IO.read, data: .inCapsule(byteCount: 4096)),
      data: pattern(4096))
    try expect(
      .descriptorTypeInvalid, host.io(Opcode.IO.read, data: .inCapsule(byteCount: 4096)))
    try expect(
      .dataLengthInvalid, host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096)),
      data: pattern(512))
    try expect(
      .offsetInvalid, host.io(Opcode.IO.write, data: .inCapsule(offset: 8, byteCount: 4096)),
      data: pattern(4096))
    try expect(.descriptorTypeInvalid, host.io(Opcode.IO.write, data: block), data: pattern(4096))
    try expect(
      .writeProtected, host.io(Opcode.IO.write, namespace: 2, data: .inCapsule(byteCount: 4096)),
      data: pattern(4096))
    try expect(.success, host.io(Opcode.IO.flush))
    // Of Fabrics commands an I/O queue takes Disconnect.
    var other = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertyGet))
    try expect(.invalidField, other)
    other.namespace = UInt32(Opcode.Fabrics.disconnect)
    try expect(.success, other)
    #expect(host.client.seesEnd())
  }

  @Test("blocks that cannot be read say so, and those before and behind are read (NV-22, NV-24)")
  func uncorrectable() throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit).io
    #expect(
      try host.run(host.io(Opcode.IO.writeUncorrectable, block: 100)).completion.status == .success)
    #expect(
      try host.run(
        host.io(Opcode.IO.read, block: 96, count: 8, data: .transport(byteCount: 32768))
      ).completion.status == .unrecoveredReadError)
    #expect(
      try host.run(host.io(Opcode.IO.verify, block: 0, count: 512)).completion.status
        == .unrecoveredReadError)
    #expect(
      try host.run(host.io(Opcode.IO.verify, block: 101, count: 512)).completion.status == .success)
    #expect(
      try host.run(host.io(Opcode.IO.writeZeroes, block: 64, count: 64)).completion.status
        == .success)
    var ranges = [UInt8](repeating: 0, count: 48)
    for (index, block) in [5, 0, 9].enumerated() {
      ranges[16 * index + 4] = index == 1 ? 0 : 2
      ranges[16 * index + 8] = UInt8(block)
    }
    var deallocate = host.io(
      Opcode.IO.datasetManagement, data: .inCapsule(byteCount: UInt32(ranges.count)))
    deallocate.dword10 = 2
    deallocate.dword11 = 0b100
    #expect(try host.run(deallocate, data: ranges).completion.status == .success)
    #expect(
      try host.run(host.io(Opcode.IO.verify, block: 0, count: 512)).completion.status == .success)
  }

  @Test(
    "a controller ends with its admin queue, with a silent host, and with the unit (NV-4, NV-16)")
  func ends() throws {
    let unit = try TCPUnit()
    let pair = try HostPair(unit)
    pair.admin.client.endDirection()
    #expect(pair.io.client.seesEnd())
    let silent = try TCPHost(unit)
    try silent.initialize()
    _ = try silent.becomeAdmin(keepAlive: 200)
    #expect(silent.client.seesEnd())
    let last = try HostPair(unit)
    unit.server.stop()
    #expect(last.io.client.seesEnd() && last.admin.client.seesEnd())
  }

  @Test("a volume that comes is told to who waits for it (NV-17)")
  func volumeComes() throws {
    let unit = try TCPUnit()
    let admin = try HostPair(unit).admin
    var events = Command(opcode: Opcode.Admin.setFeatures)
    events.dword10 = 0x0B
    events.dword11 = 1 << 8
    #expect(try admin.run(events).completion.status == .success)
    try admin.client.send(
      admin.capsule(Command(opcode: Opcode.Admin.asynchronousEventRequest, identifier: 77)))
    try unit.layer.add(Volume(name: "more", store: try MemoryStore(byteCount: 1 << 20)))
    let event = try admin.receive().completion
    #expect(event.identifier == 77 && event.result == 0x04_0002)
    var identify = Command(opcode: Opcode.Admin.identify, namespace: 2)
    identify.data = .transport(byteCount: 4096)
    let data = try admin.run(identify).data
    #expect(data.count == 4096 && data[1] == 1)
    #expect(try admin.receive().completion.status == .success)
  }
}
