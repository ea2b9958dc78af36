import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricStorage
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("I2O: serving", .untilStuck)
struct ServingTests {
  private static func pattern(_ seed: UInt8, _ byteCount: Int) -> [UInt8] {
    (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(seed)) }
  }

  @Test("IT-1: other openings are refused in words")
  func openings() throws {
    let test = try TestServer()
    for greeting in [[], [1, 2, 3], I2OHostOpening(hostName: "").encoded()] as [[UInt8]] {
      let host = try RawHost(test, greeting: greeting)
      guard case .refused(let words)? = host.refusal else {
        Issue.record("\(greeting) was not refused: \(String(describing: host.refusal))")
        continue
      }
      #expect(words.contains("expected the opening of an I2O channel"))
    }
    let host = try RawHost(test)
    let answer = try I2OUnitOpening(decoding: try #require(host.channel).peerGreeting)
    #expect(answer.maximumTransferByteCount == 128 << 10)
  }

  @Test("IT-20, IT-21: status before and after, replies only when they may come")
  func start() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    #expect(host.read(block: 0, into: [host.piece(0, 4096)]) == .failure(.stateError))
    func status() -> StatusBlock? {
      let count = host.arrivals.count
      host.send(RequestFrame.statusGet(host.piece(100, StatusBlock.byteCount)).bytes)
      host.run { host.arrivals.count > count }
      #expect(host.arrivals.last == .pushed(0xA0))
      let bytes = host.bytes(100, StatusBlock.byteCount)
      return withView(bytes) { StatusBlock($0) }
    }
    let before = try #require(status())
    #expect(before.state == .reset && before.depth == 129 && before.tableByteCount == 12 + 72)
    // Replies of 7 words are too short.
    var short = RequestFrame.outboundInit(wordTo: host.piece(0, 4)).bytes
    short[22] = 7
    host.send(short)
    host.run { host.arrivals.last == .pushed(0xA1) }
    #expect(host.bytes(0, 4) == [2, 0, 0, 0])
    #expect(status()?.state == .reset)
    #expect(host.initialise())
    #expect(status()?.state == .operational)
    #expect(status()?.initCode == 0x80)
    #expect(host.read(block: 0, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    // Not while something is under way: a request that waits for the table does.
    host.send(tableNotify(host, known: 1, context: 9))
    host.send(RequestFrame.outboundInit(wordTo: host.piece(0, 4)).bytes)
    let count = host.arrivals.count
    host.run { host.arrivals.count > count }
    #expect(host.bytes(0, 4) == [2, 0, 0, 0])
  }

  private func tableNotify(_ host: RawHost, known: UInt32, context: UInt32) -> [UInt8] {
    RequestFrame.tableNotify(
      knownIndicator: known, into: host.piece(8192, 4096), context: context
    ).bytes
  }

  @Test("IT-22, IT-23: the table, whole and in part, and a change of it")
  func table() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    #expect(
      host.ask(tableNotify(host, known: 0, context: 1), context: 1) == .success(transferCount: 84))
    let bytes = host.bytes(8192, 84)
    let table = try #require(withView(bytes) { DeviceTable($0) })
    #expect(table.entries.map(\.number) == [8, 9] && table.changeIndicator == 1)
    #expect(table.entries[0].identity == test.layer.volumes[0].identifier.low)
    // Room for one entry and a half.
    let part = RequestFrame.tableNotify(knownIndicator: 0, into: host.piece(8192, 70), context: 2)
    #expect(host.ask(part.bytes, context: 2) == .success(transferCount: 48))
    let less = host.bytes(8192, 48)
    let found = try #require(withView(less) { DeviceTable($0) })
    #expect(found.entries.count == 1 && found.count == 2)
    // Room for less than the head.
    let none = RequestFrame.tableNotify(knownIndicator: 0, into: host.piece(8192, 8), context: 3)
    #expect(host.ask(none.bytes, context: 3) == .fault(MessageFault(.replyBufferFull, at: 24)))
    // Of another class there are none.
    var other = tableNotify(host, known: 0, context: 4)
    other[16] = 0x20
    #expect(host.ask(other, context: 4) == .success(transferCount: 12))
    // One that knows it all waits for a change.
    host.send(tableNotify(host, known: 1, context: 5))
    #expect(!host.run(.milliseconds(100)) { !host.replies(to: 5).isEmpty })
    try test.layer.add(Volume(name: "late", store: try MemoryStore(byteCount: 4096)))
    #expect(host.run { host.replies(to: 5) == [.success(transferCount: 120)] })
    let changed = host.bytes(8192, 120)
    let now = try #require(withView(changed) { DeviceTable($0) })
    #expect(now.entries.map(\.number) == [8, 9, 10] && now.changeIndicator == 2)
    try test.layer.removeVolume(named: "late")
    #expect(
      host.ask(tableNotify(host, known: 2, context: 6), context: 6) == .success(transferCount: 84))
  }

  @Test("IT-50 to IT-52: parameters of a device, field by field")
  func parameters() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    func get(_ device: UInt16, _ operations: [UInt8], room: Int = 1024) -> [UInt8]? {
      let frame = RequestFrame.parametersGet(
        of: device, operations, into: host.piece(4096, room), context: 3)
      guard case .success(let count)? = host.ask(frame.bytes, context: 3) else { return nil }
      return host.bytes(4096, Int(count))
    }
    let whole = try #require(
      get(TestServer.disk, ParameterLists.operations(reading: DeviceFacts.groups)))
    let facts = withView(whole) { view -> DeviceFacts? in
      guard let values = ParameterLists.values(view), values.count == 3 else { return nil }
      let parts = zip(values, DeviceFacts.groups).map { $0.slice(0, $1.byteCount) }
      return DeviceFacts(info: parts[0], volumeSet: parts[1], identity: parts[2])
    }
    let disk = try test.layer.volume(named: "disk")
    #expect(
      facts
        == DeviceFacts(
          name: "disk", identifier: disk.identifier, blockByteCount: 4096, byteCount: 1 << 22,
          isReadOnly: false))
    // Field 4 and then 3 of the device's information: bytes in all, bytes of a block.
    let fields = words(0x0001, 0x0000_0001, 0x0004_0002, 0x0000_0003)
    #expect(get(TestServer.book, fields) == words(1, 4, 1 << 20, 0, 512))
    #expect(get(TestServer.book, words(1, 1, 0x0007_0001)) == words(1, 0x000B_0001))
    #expect(get(TestServer.book, words(1, 0x7777_0001, 0xFFFF)) == words(1, 0x0008_0001))
    #expect(get(I2O.processorTID, words(1, 1, 0xFFFF)) == words(1, 0x0008_0001))
    // Another operation ends the list.
    #expect(get(TestServer.disk, words(2, 5, 0xFFFF, 1, 0xFFFF)) == words(1, 0x0009_0001))
    // No room for the values, but for the status.
    #expect(get(TestServer.disk, words(1, 1, 0xFFFF), room: 8) == words(1, 0x0003_0001))
    let tight = RequestFrame.parametersGet(
      of: 9, words(1, 1, 0xFFFF), into: host.piece(4096, 3), context: 3)
    #expect(host.ask(tight.bytes, context: 3) == .fault(MessageFault(.replyBufferFull, at: 32)))
    for bad in [words(0), words(0x0001_0001, 1, 0xFFFF), words(1), words(1, 1, 9)] {
      let frame = RequestFrame.parametersGet(of: 9, bad, into: host.piece(4096, 64), context: 3)
      guard case .fault? = host.ask(frame.bytes, context: 3) else {
        Issue.record("\(bad) is no list of operations")
        continue
      }
    }
  }

  @Test("IT-32, IT-33, IT-42, IT-43: one piece, many, and none of some bytes, there and back")
  func pieces() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    let data = Self.pattern(3, 8192)
    #expect(host.write(block: 4, data) == .success(transferCount: 8192))
    #expect(
      host.read(block: 4, byteCount: 8192, into: [host.piece(0, 8192)])
        == .success(transferCount: 8192))
    #expect(host.bytes(0, 8192) == data)
    // Backwards, in pieces that are no blocks, with a gap and a piece of nothing.
    let scattered = [
      host.piece(20_001, 1000), host.piece(0, 0), ScatterElement(.nowhere, byteCount: 96),
      host.piece(10_000, 3000), host.piece(9000, 1), host.piece(30_003, 4095),
    ]
    host.fill(0, .init(repeating: 0xEE, count: 40_000))
    #expect(host.read(block: 4, byteCount: 8192, into: scattered) == .success(transferCount: 8192))
    #expect(host.bytes(20_001, 1000) == Array(data[..<1000]))
    #expect(host.bytes(10_000, 3000) == Array(data[1096..<4096]))
    #expect(host.bytes(9000, 1) == [data[4096]])
    #expect(host.bytes(30_003, 4095) == Array(data[4097...]))
    #expect(host.bytes(30_003 + 4095, 100).allSatisfy { $0 == 0xEE })
    #expect(host.bytes(21_001, 100).allSatisfy { $0 == 0xEE })
    // Gathered: the end first, then the beginning, of which a part twice.
    let gathered = [
      ScatterElement(.attached, address: 6000, byteCount: 2192),
      ScatterElement(.attached, address: 0, byteCount: 1000),
      ScatterElement(.attached, address: 500, byteCount: 904),
    ]
    #expect(
      host.write(block: 9, data, byteCount: 4096, from: gathered) == .success(transferCount: 4096))
    #expect(host.read(block: 9, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(host.bytes(0, 4096) == Array(data[6000...] + data[..<1000] + data[500..<1404]))
  }

  @Test("IT-34: lists that go on in the data, of reads and of writes")
  func chained() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    // 60 pieces of a read: more than a frame holds.
    let data = Self.pattern(9, 30 * 4096)
    #expect(host.write(block: 100, data) == .success(transferCount: 30 * 4096))
    let elements = (0..<60).map { host.piece((59 - $0) * 2048, 2048) }
    let segment = TransferFrame.list(elements, isOut: false).dropFirst(8)
    var frame = TransferFrame()
    frame.target = TestServer.disk
    frame.address = 100 * 4096
    frame.byteCount = 30 * 4096
    frame.list = words(0x7C02_0002, 4096, 0x3900_0000 | UInt32(segment.count), 0, 0, 0)
    #expect(host.ask(frame.bytes, data: Array(segment)) == .success(transferCount: 30 * 4096))
    let found = (0..<60).flatMap { host.bytes((59 - $0) * 2048, 2048) }
    #expect(found == data)
    // A write whose list lies behind its data.
    let tail = TransferFrame.list(
      [
        ScatterElement(.attached, address: 2048, byteCount: 2048),
        ScatterElement(.attached, address: 0, byteCount: 2048),
      ], isOut: true
    ).dropFirst(8)
    frame.isWrite = true
    frame.byteCount = 4096
    frame.list = words(0x7C02_0002, 4096, 0x3900_0000 | UInt32(tail.count), 0, 4096, 0)
    #expect(
      host.ask(frame.bytes, data: Array(data[..<4096]) + tail) == .success(transferCount: 4096))
    #expect(host.read(block: 100, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(host.bytes(0, 4096) == Array(data[2048..<4096] + data[..<2048]))
  }

  @Test("IT-41: what does not add up, or is too long, does not touch the medium")
  func untouched() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    let data = Self.pattern(1, 8192)
    #expect(host.write(block: 0, data) == .success(transferCount: 8192))
    let other = Self.pattern(2, 8192)
    #expect(
      host.write(block: 0, other, byteCount: 4096)
        == .fault(MessageFault(.invalidParameter, at: 20)))
    #expect(
      host.write(
        block: 0, other, byteCount: 8192, from: [ScatterElement(.attached, byteCount: 4096)])
        == .fault(MessageFault(.invalidParameter, at: 20)))
    let long = host.transfer(9, 0, 256 << 10, 5, [host.piece(0, 256 << 10)])
    #expect(host.ask(long) == .fault(MessageFault(.messageTooLarge, at: 20)))
    host.fill(0, .init(repeating: 0, count: 8192))
    #expect(
      host.read(block: 0, byteCount: 8192, into: [host.piece(0, 4096)])
        == .fault(MessageFault(.invalidParameter, at: 20)))
    #expect(host.bytes(0, 8192).allSatisfy { $0 == 0 })
    #expect(
      host.read(block: 0, byteCount: 8192, into: [host.piece(0, 8192)])
        == .success(transferCount: 8192))
    #expect(host.bytes(0, 8192) == data)
  }

  @Test("IT-44: a bad block, the end of the device, and what may only be read")
  func errors() throws {
    let test = try TestServer(
      volumes: [
        try TestServer.volume("sick", fault: "error=write:mediaWriteError:nth=2")
      ])
    let host = try RawHost(test)
    host.initialise()
    let sick: UInt16 = 10
    let data = Self.pattern(5, 4096)
    #expect(host.write(sick, block: 0, data) == .success(transferCount: 4096))
    #expect(
      host.write(sick, block: 1, data)
        == .error(.errorDirty, .mediaError, transferCount: 0, logicalByteAddress: 4096))
    #expect(
      host.read(block: 1023, byteCount: 8192, into: [host.piece(0, 8192)])
        == .error(
          .errorNoDataTransfer, .accessError, transferCount: 0, logicalByteAddress: 1023 * 4096))
    let small = Array(data[..<512])
    #expect(
      host.write(TestServer.book, block: 0, small, blockByteCount: 512)
        == .error(.errorNoDataTransfer, .writeProtected, transferCount: 0, logicalByteAddress: 0))
    #expect(host.ask(flushFrame(TestServer.disk), context: 7) == .success(transferCount: 0))
    #expect(host.ask(flushFrame(TestServer.book), context: 7) == .success(transferCount: 0))
    #expect(
      host.ask(flushFrame(11), context: 7) == .failure(.invalidTarget))
  }

  @Test("IT-44: of a read that fails in the middle what is good is there, and counted")
  func partial() throws {
    let store = try MemoryStore(byteCount: 1 << 20)
    let test = try TestServer(volumes: [Volume(name: "worn", store: store)])
    let host = try RawHost(test)
    host.initialise()
    let data = Self.pattern(7, 4 * 4096)
    #expect(host.write(10, block: 0, data) == .success(transferCount: 4 * 4096))
    let queue = try store.makeQueue(depth: 4)
    let spoiling = [BlockRequest(.writeUncorrectable, block: 2, blockCount: 1)]
    #expect(queue.submit(spoiling.span) == 1)
    queue.drain()
    host.fill(0, .init(repeating: 0xEE, count: 5 * 4096))
    let pieces = [host.piece(0, 5000), host.piece(6000, 4 * 4096 - 5000)]
    #expect(
      host.read(10, block: 0, byteCount: 4 * 4096, into: pieces)
        == .error(
          .errorPartialTransfer, .mediaError, transferCount: 8192, logicalByteAddress: 8192))
    #expect(host.bytes(0, 5000) == Array(data[..<5000]))
    #expect(host.bytes(6000, 3192) == Array(data[5000..<8192]))
    #expect(host.bytes(9192, 8192).allSatisfy { $0 == 0xEE })
    #expect(
      host.read(10, block: 2, into: [host.piece(0, 4096)])
        == .error(.errorNoDataTransfer, .mediaError, transferCount: 0, logicalByteAddress: 8192))
  }
}
