import FabricBounded
import FabricWire

@testable import FabricI2O

/// Calls `body` with a view of `bytes`.
func withView<Value>(_ bytes: [UInt8], _ body: (WireView) throws -> Value) rethrows -> Value {
  var copy = bytes
  copy.append(0)
  return try unsafe copy.withUnsafeBytes { raw in
    try body(unsafe WireView(raw.baseAddress!, byteCount: bytes.count))
  }
}

/// What `encode` writes to `byteCount` bytes of noise.
func encoded(_ byteCount: Int, _ encode: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xA5, count: byteCount)
  unsafe bytes.withUnsafeMutableBytes { raw in encode(unsafe WireBuffer(raw)) }
  return bytes
}

/// What the translator makes of a message.
struct Translated {
  var verdict: Translation
  var header: FrameHeader
  /// Those of a transfer, or of another function with a list.
  var elements: [ScatterElement]

  /// Device 8 has blocks of 4096 bytes, device 9 of 512.
  init(_ frame: [UInt8], data: [UInt8]? = nil, isOperational: Bool = true) {
    var translator = FrameTranslator()
    translator.isOperational = isOperational
    let noise = ScatterElement(.nowhere, address: 0xA5, byteCount: 0xA5, handle: 0xA5)
    let table = FixedTable(repeating: noise, count: I2O.maximumElementCount + 2)
    var header = FrameHeader(.nop, target: 0, wordCount: 3)
    let shapes: [UInt16: UInt32] = [8: 4096, 9: 512]
    verdict = withView(frame) { frame in
      withView(data ?? []) { view in
        translator.translate(
          frame, attached: data == nil ? nil : view, header: &header, into: table, from: 1,
          device: { shapes[$0].map { DeviceShape(blockByteCount: $0) } })
      }
    }
    self.header = header
    var count = 0
    switch verdict {
    case .transfer(let transfer): count = transfer.elementCount
    case .table(_, _, let elementCount, _), .parameters(_, _, let elementCount, _):
      count = elementCount
    case .status, .outbound: count = 1
    default: break
    }
    elements = (0..<count).map { table[1 + $0] }
    // Nobody steps over the edges of the part that is lent.
    precondition(table[0] == noise && table[I2O.maximumElementCount + 1] == noise)
  }

  var transfer: BlockTransfer? {
    if case .transfer(let transfer) = verdict { transfer } else { nil }
  }
  var failure: I2O.FailureCode? { if case .failure(let code) = verdict { code } else { nil } }
  var fault: MessageFault? { if case .fault(let fault) = verdict { fault } else { nil } }
  var isUnreadable: Bool { if case .unreadable = verdict { true } else { false } }
}

/// A message that moves blocks, as a test wants it.
struct TransferFrame {
  var isWrite = false
  var target: UInt16 = 8
  var flags: UInt16 = 0
  var byteCount: UInt32 = 4096
  var address: UInt64 = 0
  var context: UInt32 = 5
  var isWide = true
  /// The list, if it is not that of `elements`.
  var list: [UInt8]?
  var elements: [ScatterElement] = []

  var bytes: [UInt8] {
    let list = list ?? Self.list(elements, isOut: isWrite)
    return encoded(32 + list.count) { buffer in
      buffer.clear()
      FrameHeader(
        isWrite ? .blockWrite : .blockRead, target: target, wordCount: buffer.byteCount / 4,
        listOffset: 8, initiatorContext: 0x1122_3344, transactionContext: context
      ).encode(into: buffer)
      buffer.set(flags, at: 16)
      buffer.set(byteCount, at: 20)
      buffer.set(address, at: 24)
      buffer.copy(list, at: 32)
    }
  }

  static func list(_ elements: [ScatterElement], isOut: Bool) -> [UInt8] {
    var space = [UInt8](repeating: 0, count: 8 + 16 * elements.count + 16)
    var count = 0
    unsafe space.withUnsafeMutableBytes { raw in
      var writer = ScatterListWriter(unsafe WireBuffer(raw))
      writer.attributes()
      for (index, element) in elements.enumerated() {
        writer.append(element, isOut: isOut, isLast: index == elements.count - 1)
      }
      count = writer.byteCount
    }
    return Array(space.prefix(count))
  }

  /// Changed, and then taken apart.
  static func translated(
    data: [UInt8]? = nil, _ change: (inout TransferFrame) -> Void
  ) -> Translated {
    var frame = TransferFrame()
    change(&frame)
    return Translated(frame.bytes, data: data)
  }
}

/// Words as bytes.
func words(_ words: UInt32...) -> [UInt8] {
  words.flatMap { word in [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: word >> $0) } }
}
