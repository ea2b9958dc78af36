import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@testable import FabricI2O

@Suite("I2O: the translator")
struct TranslatorTests {
  private let piece = ScatterElement(
    at: 0x1000, byteCount: 4096, key: RemoteKey(rawValue: 7))

  /// A read of one block, changed afterwards.
  private func read(_ change: (inout [UInt8]) -> Void) -> Translated {
    var frame = TransferFrame()
    frame.elements = [piece]
    var bytes = frame.bytes
    change(&bytes)
    return Translated(bytes)
  }

  // MARK: Frames

  @Test("IT-3: what is no frame can be told nothing")
  func noFrames() {
    for count in [0, 4, 8, 11, 13, 14, 15, 509, 516, 600] {
      let bytes = [UInt8](repeating: 1, count: count)
      #expect(Translated(bytes).isUnreadable, "\(count)")
    }
    #expect(!Translated([UInt8](repeating: 1, count: 12)).isUnreadable)
    #expect(!Translated([UInt8](repeating: 1, count: 512)).isUnreadable)
  }

  @Test("IT-12: messages that cannot be delivered")
  func failures() {
    #expect(read { $0[0] = 0x80 }.failure == .invalidVersion)
    #expect(read { $0[0] = 0x82 }.failure == .invalidVersion)
    for flag in 0..<8 { #expect(read { $0[1] = 1 << flag }.failure == .invalidFlags) }
    #expect(read { $0[2] += 1 }.failure == .frameTooSmall)
    #expect(read { $0[3] = 0xFF }.failure == .frameTooSmall)
    #expect(read { $0[2] -= 1 }.failure == .frameTooLarge)
    #expect(read { $0[5] = 0x20 }.failure == .invalidInitiator)
    #expect(read { $0[4] = 10 }.failure == .invalidTarget)
    #expect(read { $0[5] = 0x1F }.failure == .invalidTarget)
    for offset in [0, 1, 7, 9, 15] as [UInt8] {
      #expect(read { $0[0] = offset << 4 | 1 }.failure == .invalidOffset)
    }
    #expect(read { _ in }.transfer != nil)
  }

  @Test("IT-21: before the host takes replies only three functions are delivered")
  func before() {
    for function in 0...255 as ClosedRange<UInt8> {
      let bytes = words(0x0003_0001, 0x0000_1000 | UInt32(function) << 24, 0)
      let found = Translated(bytes, isOperational: false)
      switch I2O.Function(rawValue: function) {
      case .nop, .statusGet, .outboundInit: #expect(found.failure != .stateError)
      default: #expect(found.failure == .stateError)
      }
    }
  }

  @Test("IT-14: functions that are not offered, and those at the wrong place")
  func functions() {
    var known = 0
    for function in 0...255 as ClosedRange<UInt8> where I2O.Function(rawValue: function) == nil {
      let found = read { $0[7] = function }.fault
      #expect(found?.offset == 7)
      let isKnown = found?.status == .unsupportedFunction
      #expect(isKnown || found?.status == .unknownFunction)
      known += isKnown ? 1 : 0
    }
    #expect(known > 40 && known < 80)
    #expect(read { $0[4] = 0 }.fault == MessageFault(.inappropriateFunction, at: 7))
    let status = Translated(words(0x000A_0001, 0xA000_1008, 0, 0, 0, 0, 0, 0, 88, 0))
    #expect(status.fault == MessageFault(.inappropriateFunction, at: 7))
  }

  @Test("IT-15: frames of functions without a list have their length, and no data")
  func lengths() {
    let flush = words(0x0005_0001, 0x3700_1008, 0, 0, 0)
    guard case .flush = Translated(flush).verdict else {
      Issue.record("no flush")
      return
    }
    var short = Array(flush.dropLast(4))
    short[2] = 4
    #expect(Translated(short).fault == MessageFault(.messageTooSmall, at: 2))
    var long = flush + [0, 0, 0, 0]
    long[2] = 6
    #expect(Translated(long).fault == MessageFault(.messageTooLarge, at: 2))
    #expect(Translated(flush, data: [1]).fault == MessageFault(.invalidParameter, at: 0))
    let noContext = words(0x0003_0001, 0x3700_1008, 9)
    #expect(Translated(noContext).fault == MessageFault(.messageTooSmall, at: 2))
    #expect(Translated(noContext).header.transactionContext == 0)
  }

  @Test("IT-45: flags of a flush")
  func flushFlags() {
    let report = words(0x0005_0001, 0x3700_1008, 0, 0, 0x80)
    #expect(Translated(report).fault == MessageFault(.invalidParameter, at: 16))
    let reserved = words(0x0005_0001, 0x3700_1008, 0, 0, 0x0100_0000)
    #expect(Translated(reserved).fault == MessageFault(.invalidParameter, at: 16))
  }

  // MARK: Blocks

  @Test("IT-40: bytes, address and flags of a transfer")
  func blocks() {
    for byteCount in [0, 1, 512, 4095, 4097] as [UInt32] {
      let found = TransferFrame.translated { [piece] in
        $0.elements = [piece]
        $0.elements[0].byteCount = byteCount
        $0.byteCount = byteCount
      }
      #expect(found.fault == MessageFault(.invalidParameter, at: 20))
    }
    let between = TransferFrame.translated { [piece] in
      $0.elements = [piece]
      $0.address = 512
    }
    #expect(between.fault == MessageFault(.invalidParameter, at: 24))
    for flags in [2, 0x20, 0x40, 0x80, 0x100, 0x8000] as [UInt16] {
      let found = TransferFrame.translated { [piece] in
        $0.elements = [piece]
        $0.flags = flags
      }
      #expect(found.fault == MessageFault(.invalidParameter, at: 16))
    }
    let hints = TransferFrame.translated { [piece] in
      $0.elements = [piece]
      $0.flags = 0x1D
    }
    #expect(hints.transfer?.flags == [])
    for (flags, isForced) in [(0, false), (1, false), (4, true), (8, true), (0x10, false)] {
      let found = TransferFrame.translated(data: .init(repeating: 0, count: 4096)) {
        $0.isWrite = true
        $0.elements = [ScatterElement(.attached, byteCount: 4096)]
        $0.flags = UInt16(flags)
      }
      #expect(found.transfer?.flags == (isForced ? .forceUnitAccess : []))
    }
    // The far end of what can be said; whether it is there is the port's to judge.
    let far = TransferFrame.translated { [piece] in
      $0.elements = [piece]
      $0.address = .max - 4095
    }
    #expect(far.transfer?.block == UInt64.max / 4096)
  }

  @Test("IT-41: bytes of the list and of the message", arguments: [0, 1, 4095, 4097, 8192])
  func sums(_ sum: UInt32) {
    let read = TransferFrame.translated { [piece] in
      $0.elements = [piece]
      $0.elements[0].byteCount = sum
    }
    #expect(read.fault == MessageFault(.invalidParameter, at: 20))
    let write = TransferFrame.translated(data: .init(repeating: 0, count: 8192)) {
      $0.isWrite = true
      $0.elements = [ScatterElement(.attached, byteCount: sum)]
    }
    #expect(write.fault == MessageFault(.invalidParameter, at: 20))
  }

  @Test("IT-41: sums that wrap 32 bits are not the message's bytes")
  func wrappingSum() {
    // 64 elements of nearly 2^24 bytes each, twice: more than 32 bits can say.
    var piece = piece
    piece.byteCount = 0xFF_FFFF
    let found = TransferFrame.translated {
      $0.elements = Array(repeating: piece, count: 28)
      $0.byteCount = 4096
    }
    #expect(found.fault == MessageFault(.invalidParameter, at: 20))
  }

  @Test("IT-42: pieces side by side are taken where they lie, others are brought together")
  func pieces() {
    func write(_ parts: (UInt64, UInt32)...) -> Translated {
      TransferFrame.translated(data: .init(repeating: 0, count: 8192)) {
        $0.isWrite = true
        $0.elements = parts.map { ScatterElement(.attached, address: $0.0, byteCount: $0.1) }
      }
    }
    #expect(write((0, 4096)).transfer?.attachedOffset == 0)
    #expect(write((100, 1000), (1100, 3096)).transfer?.attachedOffset == 100)
    #expect(write((0, 0), (100, 4096), (9, 0)).transfer?.attachedOffset == 100)
    #expect(write((0, 2048), (0, 2048)).transfer?.attachedOffset == .some(nil))
    #expect(write((2048, 2048), (0, 2048)).transfer?.attachedOffset == .some(nil))
    #expect(write((2048, 2048), (0, 2048)).transfer?.elementCount == 2)
  }

  // MARK: Others

  @Test("IT-60: what an abort is for")
  func aborts() {
    let abort = { (kind: UInt32) in
      Translated(words(0x0006_0001, 0x0100_1008, 0, 9, 0x3000_0000 | kind << 16, 5))
    }
    // Function and context that fit, of four messages.
    let messages: [(function: UInt8, context: UInt32)] = [
      (0x30, 5), (0x30, 6), (0x31, 5), (0x31, 6),
    ]
    let expected: [[Bool]] = [
      [true, false, false, false], [true, true, false, false], [true, false, true, false],
      [true, true, true, true],
    ]
    for kind in 0..<8 {
      guard case .abort(let request) = abort(UInt32(kind)).verdict else {
        Issue.record("kind \(kind) is one")
        continue
      }
      let fits = messages.map {
        request.fits(function: $0.function, transactionContext: $0.context)
      }
      #expect(fits == expected[kind & 3])
      #expect(!request.fits(function: 0x01, transactionContext: 5))
    }
    #expect(abort(8).fault == MessageFault(.invalidParameter, at: 16))
    let reserved = Translated(words(0x0006_0001, 0x0100_1008, 0, 9, 1, 5))
    #expect(reserved.fault == MessageFault(.invalidParameter, at: 16))
  }

  @Test("IT-20, IT-21, IT-22: what the processor is asked, said wrongly")
  func processor() {
    func status(_ change: (inout [UInt8]) -> Void) -> MessageFault? {
      var bytes = words(0x000A_0001, 0xA000_1000, 0, 0, 0, 0, 0x1000, 0, 88, 7)
      change(&bytes)
      return Translated(bytes).fault
    }
    let fine = status { _ in }
    #expect(fine == nil)
    let reserved = status { $0[12] = 1 }
    #expect(reserved == MessageFault(.invalidParameter, at: 8))
    let short = status { $0[32] = 87 }
    #expect(short == MessageFault(.invalidParameter, at: 32))
    let wrapping = status { for index in 24..<32 { $0[index] = 0xFF } }
    #expect(wrapping == MessageFault(.invalidParameter, at: 24))
    let wordTooLong = words(
      0x0009_0061, 0xA100_1000, 0, 0, 4096, 0x0008_0080, 0xD100_0008, 7, 0x1000)
    #expect(Translated(wordTooLong).fault == MessageFault(.invalidParameter, at: 24))
    let nowhere = words(0x0008_0061, 0xA200_1000, 0, 0, 0x10, 0, 0xD100_0000, 7)
    #expect(Translated(nowhere).fault != nil)
  }

  @Test("IT-50: parameters have operations in the frame and a place for results")
  func parameters() {
    let operation = ParameterLists.operations(reading: [.mediaInfo])
    func get(_ list: [UInt8], flags: UInt32 = 0) -> Translated {
      let count = UInt32(20 + list.count) / 4
      return Translated(words(count << 16 | 0x51, 0x0600_1008, 0, 0, flags) + list)
    }
    let operations = words(0x4C00_0000 | UInt32(operation.count)) + operation
    let place = words(0xD100_0100, 7, 0x1000)
    guard case .parameters = get(operations + place).verdict else {
      Issue.record("these are parameters")
      return
    }
    #expect(get(operations + place, flags: 1).fault == MessageFault(.invalidParameter, at: 16))
    #expect(get(place).fault == MessageFault(.invalidParameter, at: 20))
    #expect(get(operations).fault?.status == .missingParameter)
    #expect(get(operations + words(0xD100_0000, 7, 0)).fault?.status == .missingParameter)
    #expect(get(operations + operations + place).fault?.status == .invalidParameter)
    #expect(get(words(0x4C00_0FF0) + place).fault?.status == .invalidParameter)
  }

  @Test("IT-3, IT-13, IT-35: any bytes come to something, whatever they say", arguments: 1...40)
  func noise(_ seed: UInt64) {
    var random = SeededGenerator(seed: seed &* 7919)
    for _ in 0..<2000 {
      var frame = TransferFrame()
      frame.isWrite = Bool.random(using: &random)
      frame.elements = (0..<Int.random(in: 1...4, using: &random)).map { _ in
        ScatterElement(
          frame.isWrite ? .attached : .host, address: UInt64.random(in: 0..<4096, using: &random),
          byteCount: 1024, handle: frame.isWrite ? 0 : 9)
      }
      var bytes = frame.bytes
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        bytes[index] = UInt8.random(in: 0...255, using: &random)
      }
      let data = (0..<Int.random(in: 0...600, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      let found = Translated(bytes, data: Bool.random(using: &random) ? data : nil)
      guard let transfer = found.transfer else { continue }
      let sum = found.elements.reduce(0) { $0 + UInt64($1.byteCount) }
      #expect(sum == UInt64(transfer.byteCount), "seed \(seed)")
      for element in found.elements where element.place == .attached {
        #expect(element.address + UInt64(element.byteCount) <= UInt64(data.count), "seed \(seed)")
      }
    }
  }
}
