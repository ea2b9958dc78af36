import FabricBounded
import FabricI2O
import FabricStorage
import FabricWire

/// Messages to the translator and what a unit sends to a host. Offset 0: bit 0 the host takes replies,
/// bit 1 data comes with the message, bits 2 to 4 what is read; offset 1: a quarter of the bytes of a
/// sound beginning that are kept; then the message, and behind 512 bytes of it the data.
func fuzzI2O(_ input: FuzzInput) {
  var input = input
  let flags = input.byte()
  if flags & 4 == 0 { return translate(flags, &input) }
  let bytes = input.remainder()
  withExactView(bytes) { view in
    switch flags >> 3 & 7 {
    case 0:
      guard let (header, reply) = ReplyFrame.decode(view) else { return }
      let again = written(reply.byteCount) { reply.encode(into: $0, to: header) }
      withExactView(again) { require(ReplyFrame.decode($0)?.reply == reply, "\(reply) is another") }
    case 1:
      guard let table = DeviceTable(view) else { return }
      require(table.entries.count <= table.count, "more entries than there are")
    case 2: _ = StatusBlock(view)
    case 3:
      for value in ParameterLists.values(view) ?? [] {
        _ = DeviceFacts(info: value, volumeSet: value, identity: value)
      }
    case 4: _ = try? I2OHostOpening(decoding: bytes)
    default: _ = try? I2OUnitOpening(decoding: bytes)
    }
  }
}

private func translate(_ flags: UInt8, _ input: inout FuzzInput) {
  var translator = FrameTranslator()
  translator.isOperational = flags & 1 != 0
  var frame = input.bytes(I2O.maximumFrameByteCount)
  let data = input.remainder()
  // A header that is right more often than chance would have it.
  if flags & 0x20 != 0, frame.count >= 12 {
    let function = I2O.Function.allCases[Int(frame[7]) % I2O.Function.allCases.count]
    frame[0] = 1 | function.listOffset << 4
    frame[1] = 0
    frame[2] = UInt8(frame.count / 4)
    frame[3] = 0
    frame[4] = flags & 0x40 != 0 ? 8 : 0
    frame[5] = 0x10
    frame[6] = 0
    frame[7] = function.rawValue
    frame.removeLast(frame.count % 4)
  }
  let noise = ScatterElement(.nowhere, address: 0xA5, byteCount: 0xA5, handle: 0xA5)
  let table = FixedTable(repeating: noise, count: I2O.maximumElementCount + 2)
  var header = FrameHeader(.nop, target: 0, wordCount: 3)
  let verdict = withExactView(frame) { frame in
    withExactView(data) { view in
      translator.translate(
        frame, attached: flags & 2 != 0 ? view : nil, header: &header, into: table, from: 1,
        device: { $0 == 8 ? DeviceShape(blockByteCount: 512) : nil })
    }
  }
  require(
    table[0] == noise && table[I2O.maximumElementCount + 1] == noise, "a step over the table's edge"
  )
  guard case .transfer(let transfer) = verdict else { return }
  var sum: UInt64 = 0
  for index in 1..<1 + transfer.elementCount {
    let element = table[index]
    sum += UInt64(element.byteCount)
    require(element.byteCount > 0, "a piece of nothing")
    if transfer.operation == .write {
      require(
        element.place == .attached
          && element.address + UInt64(element.byteCount) <= UInt64(data.count),
        "a piece outside the data")
    } else {
      require(element.place != .attached, "a read into the unit")
    }
  }
  require(sum == UInt64(transfer.byteCount), "the pieces are not the message's bytes")
  require(transfer.byteCount == transfer.blockCount * 512, "no whole blocks")
}
