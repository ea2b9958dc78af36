import FabricI2OHost
import FabricStorage
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@testable import FabricI2O

@Suite("I2O: golden bytes")
struct VectorTests {
  private func vector(_ name: String) throws -> [UInt8] {
    try #require(try goldenVectors("i2o.txt")[name])
  }

  private let piece = ScatterElement(
    at: 0x7f00_0000_1000, byteCount: 8192, key: RemoteKey(rawValue: 0xDEAD_BEEF))

  @Test("IT-10, IT-30 to IT-32, IT-40: a block read, with one piece")
  func blockRead() throws {
    let bytes = try vector("block read")
    let read = Translated(bytes)
    #expect(read.elements == [piece])
    #expect(
      read.transfer
        == BlockTransfer(
          operation: .read, flags: [], block: 3, blockCount: 2, byteCount: 8192,
          logicalByteAddress: 0x3000, elementCount: 1, attachedOffset: nil))
    #expect(read.header.initiatorContext == 0x1122_3344)
    #expect(read.header.transactionContext == 0x0001_0005)
    var frame = TransferFrame()
    frame.byteCount = 8192
    frame.address = 0x3000
    frame.context = 0x0001_0005
    frame.elements = [piece]
    #expect(frame.bytes == bytes)
  }

  @Test("IT-31, IT-33: a read of two pieces with a gap, and addresses of 32 bits")
  func scatteredRead() throws {
    let read = Translated(try vector("scattered read"))
    #expect(
      read.elements == [
        ScatterElement(.host, address: 0x10_0000, byteCount: 1024, handle: 1),
        ScatterElement(.nowhere, byteCount: 2048),
        ScatterElement(.host, address: 0x20_0000, byteCount: 1024, handle: 2),
      ])
    #expect(read.transfer?.byteCount == 4096)
  }

  @Test("IT-33, IT-40: a write whose data came with it")
  func blockWrite() throws {
    let write = Translated(
      try vector("block write through"), data: .init(repeating: 1, count: 4096))
    #expect(write.transfer?.operation == .write)
    #expect(write.transfer?.flags == .forceUnitAccess)
    #expect(write.transfer?.block == 5)
    #expect(write.transfer?.attachedOffset == 0)
  }

  @Test("IT-34, IT-42: a write whose list goes on in its data")
  func chainedWrite() throws {
    let data = [UInt8](repeating: 1, count: 4096) + (try vector("chained segment"))
    let write = Translated(try vector("chained write"), data: data)
    #expect(
      write.elements == [
        ScatterElement(.attached, address: 2048, byteCount: 2048),
        ScatterElement(.attached, address: 0, byteCount: 2048),
      ])
    #expect(write.transfer?.attachedOffset == nil)
  }

  @Test("IT-4, IT-45, IT-60: NOP, flush and abort")
  func short() throws {
    guard case .nothing = Translated(try vector("nop")).verdict else {
      Issue.record("a NOP is nothing")
      return
    }
    guard case .flush = Translated(try vector("cache flush")).verdict else {
      Issue.record("a flush is a flush")
      return
    }
    let bytes = try vector("abort")
    guard case .abort(let request) = Translated(bytes).verdict else {
      Issue.record("an abort is an abort")
      return
    }
    #expect(
      request == AbortRequest(kind: .exact, function: 0x30, transactionContext: 0x0001_0005))
    #expect(
      RequestFrame.abort(.exact, of: 8, function: 0x30, transaction: 0x0001_0005, context: 7).bytes
        == bytes)
  }

  @Test("IT-20, IT-21, IT-22, IT-50: what a host asks the processor")
  func processor() throws {
    var status = piece
    status.byteCount = 88
    #expect(RequestFrame.statusGet(status).bytes == (try vector("status get")))
    let asked = Translated(try vector("status get"), isOperational: false)
    guard case .status = asked.verdict else {
      Issue.record("status is status")
      return
    }
    #expect(asked.elements == [status])
    var word = piece
    word.byteCount = 4
    #expect(RequestFrame.outboundInit(wordTo: word).bytes == (try vector("outbound init")))
    guard
      case .outbound(8, 0x80) = Translated(try vector("outbound init"), isOperational: false)
        .verdict
    else {
      Issue.record("outbound init is outbound init")
      return
    }
    var page = piece
    page.byteCount = 4096
    #expect(
      RequestFrame.tableNotify(knownIndicator: 3, into: page, context: 1).bytes
        == (try vector("table notify")))
    guard case .table(0x10, 3, 1, 4096) = Translated(try vector("table notify")).verdict else {
      Issue.record("table notify is table notify")
      return
    }
    var results = piece
    results.byteCount = 256
    let operations = ParameterLists.operations(reading: [.mediaInfo])
    #expect(
      RequestFrame.parametersGet(of: 8, operations, into: results, context: 2).bytes
        == (try vector("parameters get")))
    let parameters = Translated(try vector("parameters get"))
    guard case .parameters(32, 12, 1, 256) = parameters.verdict else {
      Issue.record("parameters get is parameters get, got \(parameters.verdict)")
      return
    }
  }

  @Test("IT-51, IT-52: the results of parameters get")
  func results() throws {
    let facts = DeviceFacts(
      name: "disk", identifier: VolumeIdentifier(high: 1, low: 2), blockByteCount: 4096,
      byteCount: 1 << 24, isReadOnly: false)
    let operations = ParameterLists.operations(reading: [.mediaInfo])
    var count = 0
    let bytes = encoded(64) { buffer in
      count =
        (try? withView(operations) {
          try ParameterLists.answer($0, at: 0, facts: facts, into: buffer)
        }) ?? 0
    }
    #expect(Array(bytes.prefix(count)) == (try vector("parameters results")))
  }

  @Test(
    "IT-11 to IT-13, IT-44, IT-61: replies",
    arguments: [
      ("success reply", ReplyFrame.success(transferCount: 8192)),
      (
        "media error reply",
        .error(.errorPartialTransfer, .mediaError, transferCount: 4096, logicalByteAddress: 0x4000)
      ),
      (
        "aborted reply",
        .error(.abortNoDataTransfer, .success, transferCount: 0, logicalByteAddress: 0x3000)
      ),
      ("fault reply", .fault(MessageFault(.invalidParameter, at: 20))),
      ("failure reply", .failure(.invalidTarget)),
    ])
  func replies(_ name: String, _ reply: ReplyFrame) throws {
    let bytes = try vector(name)
    let request = Translated(try vector("block read")).header
    #expect(encoded(reply.byteCount) { reply.encode(into: $0, to: request) } == bytes)
    let found = try #require(withView(bytes) { ReplyFrame.decode($0) })
    #expect(found.reply == reply)
    #expect(found.header.transactionContext == request.transactionContext)
    // Shorter or longer it is no reply.
    for other in [Array(bytes.dropLast(4)), bytes + [0, 0, 0, 0], Array(bytes.prefix(8))] {
      #expect(withView(other) { ReplyFrame.decode($0) } == nil)
    }
  }

  @Test("IT-61: the reply to an abort")
  func abortReply() throws {
    let bytes = try vector("abort reply")
    let request = Translated(try vector("abort")).header
    let reply = ReplyFrame.aborted(count: 1)
    #expect(encoded(20) { reply.encode(into: $0, to: request) } == bytes)
    #expect(withView(bytes) { ReplyFrame.decode($0)?.reply } == reply)
  }

  @Test("IT-20, IT-22: the block of status and the table of devices")
  func blocks() throws {
    let status = StatusBlock(
      state: .operational, initCode: 0x80, frameWordCount: 128, depth: 128, tableByteCount: 48)
    let bytes = try vector("status block")
    #expect(encoded(StatusBlock.byteCount) { status.encode(into: $0) } == bytes)
    #expect(withView(bytes) { StatusBlock($0) } == status)
    let entry = DeviceTable.Entry(number: 8, changeIndicator: 2, identity: 11)
    let table = try vector("device table")
    let written = encoded(48) { buffer in
      DeviceTable.encodeHead(count: 1, changeIndicator: 3, into: buffer)
      DeviceTable.encode(entry, into: buffer.slice(12, 36))
    }
    #expect(written == table)
    let found = try #require(withView(table) { DeviceTable($0) })
    #expect(found.entries == [entry] && found.count == 1 && found.changeIndicator == 3)
  }

  @Test("IT-1: openings")
  func openings() throws {
    let host = try vector("host opening")
    #expect(I2OHostOpening(hostName: "web1").encoded() == host)
    #expect(try I2OHostOpening(decoding: host).hostName == "web1")
    let unit = try vector("unit opening")
    let opening = I2OUnitOpening(unitName: "unit", maximumTransferByteCount: 128 << 10)
    #expect(opening.encoded() == unit)
    #expect(try I2OUnitOpening(decoding: unit) == opening)
    for index in [0, 4, 5, 6, 7, 8] {
      var other = host
      other[index] ^= index == 8 ? 0x70 : 1
      #expect(throws: I2OOpeningFault.self) { try I2OHostOpening(decoding: other) }
      other = unit
      other[index] ^= 1
      guard index < 8 else { continue }
      #expect(throws: I2OOpeningFault.self) { try I2OUnitOpening(decoding: other) }
    }
    for count in 0..<unit.count {
      let part = Array(unit.prefix(count))
      #expect(throws: I2OOpeningFault.self) { try I2OUnitOpening(decoding: part) }
    }
    for count in 0..<host.count {
      let part = Array(host.prefix(count))
      #expect(throws: I2OOpeningFault.self) { try I2OHostOpening(decoding: part) }
    }
    let longest = I2OHostOpening(hostName: String(repeating: "x", count: 64))
    #expect(try I2OHostOpening(decoding: longest.encoded()) == longest)
    let tooLong = I2OHostOpening(hostName: String(repeating: "x", count: 65)).encoded()
    #expect(throws: I2OOpeningFault.self) { try I2OHostOpening(decoding: tooLong) }
  }
}
