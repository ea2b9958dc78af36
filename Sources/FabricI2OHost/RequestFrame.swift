public import FabricI2O
public import FabricMessaging
import FabricVerbs
import FabricWire

/// A frame that a host sends. Plain data, to be sent at once.
public struct RequestFrame {
  public let bytes: [UInt8]

  init(_ byteCount: Int, _ write: (WireBuffer) -> Void) {
    bytes = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { space, count in
      let buffer = unsafe WireBuffer(UnsafeMutableRawBufferPointer(space))
      let frame = buffer.slice(0, byteCount)
      frame.clear()
      write(frame)
      count = byteCount
    }
  }

  /// - Returns: why it was not taken.
  public func send(over channel: Channel) -> SendRefusal? {
    unsafe bytes.withUnsafeBytes { bytes in
      channel.send(kind: I2O.messageKind, tag: 0, payload: unsafe WireView(bytes))
    }
  }

  /// Bytes of a list of one piece.
  static let listByteCount =
    ScatterListWriter.attributesByteCount + ScatterListWriter.elementByteCount

  /// Writes a list of one piece that the unit writes to, at the end of a frame.
  static func list(_ piece: ScatterElement, into buffer: WireBuffer, isOut: Bool = false) {
    var writer = ScatterListWriter(buffer)
    writer.attributes()
    writer.append(piece, isOut: isOut, isLast: true)
  }

  /// (IT-20)
  public static func statusGet(_ piece: ScatterElement) -> RequestFrame {
    RequestFrame(40) { buffer in
      FrameHeader(.statusGet, target: I2O.processorTID, wordCount: 10).encode(into: buffer)
      buffer.set(piece.address, at: 24)
      buffer.set(piece.byteCount, at: 32)
      buffer.set(piece.handle, at: 36)
    }
  }

  /// (IT-21)
  public static func outboundInit(wordTo piece: ScatterElement) -> RequestFrame {
    let byteCount = I2O.Function.outboundInit.fixedByteCount + listByteCount
    return RequestFrame(byteCount) { buffer in
      FrameHeader(
        .outboundInit, target: I2O.processorTID, wordCount: byteCount / 4, listOffset: 6
      ).encode(into: buffer)
      buffer.set(4096 as UInt32, at: 16)
      buffer.set(0x80 as UInt8, at: 20)
      buffer.set(I2O.replyFrameWordCount, at: 22)
      list(piece, into: buffer.slice(24, listByteCount))
    }
  }

  /// (IT-22)
  public static func tableNotify(
    knownIndicator: UInt32, into piece: ScatterElement, context: UInt32
  ) -> RequestFrame {
    let byteCount = I2O.Function.tableNotify.fixedByteCount + listByteCount
    return RequestFrame(byteCount) { buffer in
      FrameHeader(
        .tableNotify, target: I2O.processorTID, wordCount: byteCount / 4, listOffset: 6,
        transactionContext: context
      ).encode(into: buffer)
      buffer.set(UInt32(I2O.randomBlockStorage), at: 16)
      buffer.set(knownIndicator, at: 20)
      list(piece, into: buffer.slice(24, listByteCount))
    }
  }

  /// (IT-50)
  public static func parametersGet(
    of device: UInt16, _ operations: [UInt8], into piece: ScatterElement, context: UInt32
  ) -> RequestFrame {
    let fixed = I2O.Function.parametersGet.fixedByteCount
    let padded = (operations.count + 3) & ~3
    let byteCount = fixed + 8 + 4 + padded + ScatterListWriter.elementByteCount
    return RequestFrame(byteCount) { buffer in
      FrameHeader(
        .parametersGet, target: device, wordCount: byteCount / 4, listOffset: 5,
        transactionContext: context
      ).encode(into: buffer)
      var writer = ScatterListWriter(buffer.slice(fixed, byteCount - fixed))
      writer.attributes()
      writer.immediate(operations)
      writer.append(piece, isOut: false, isLast: true)
    }
  }

  /// (IT-60)
  public static func abort(
    _ kind: I2O.AbortKind, of device: UInt16, function: UInt8, transaction: UInt32,
    context: UInt32
  ) -> RequestFrame {
    RequestFrame(24) { buffer in
      FrameHeader(.abort, target: device, wordCount: 6, transactionContext: context)
        .encode(into: buffer)
      buffer.set(kind.rawValue, at: 18)
      buffer.set(function, at: 19)
      buffer.set(transaction, at: 20)
    }
  }
}
