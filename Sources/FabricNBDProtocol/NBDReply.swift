package import FabricWire

/// Replies of the transmission phase, as bytes. Each writes into room that it is given.
package enum NBDReply {
  /// A simple reply, which data follows if it is that of a read. (NB-30)
  package static func simple(cookie: UInt64, error: UInt32, into bytes: WireBuffer) {
    bytes.setBig(NBD.simpleReplyMagic, at: 0)
    bytes.setBig(error, at: 4)
    bytes.setBig(cookie, at: 8)
  }

  /// Bytes in front of the data of a chunk that has an offset.
  package static let dataHeaderByteCount = NBD.chunkHeaderByteCount + 8

  /// The header of NBD_REPLY_TYPE_OFFSET_DATA. (NB-31)
  package static func data(
    cookie: UInt64, offset: UInt64, byteCount: UInt32, isLast: Bool, into bytes: WireBuffer
  ) {
    chunk(
      NBD.Chunk.offsetData, cookie: cookie, length: 8 &+ byteCount, isLast: isLast, into: bytes)
    bytes.setBig(offset, at: NBD.chunkHeaderByteCount)
  }

  package static let holeByteCount = NBD.chunkHeaderByteCount + 12

  /// NBD_REPLY_TYPE_OFFSET_HOLE, the last. (NB-31)
  package static func hole(
    cookie: UInt64, offset: UInt64, byteCount: UInt32, into bytes: WireBuffer
  ) {
    chunk(NBD.Chunk.offsetHole, cookie: cookie, length: 12, isLast: true, into: bytes)
    bytes.setBig(offset, at: NBD.chunkHeaderByteCount)
    bytes.setBig(byteCount, at: NBD.chunkHeaderByteCount + 8)
  }

  package static let errorByteCount = NBD.chunkHeaderByteCount + 6

  /// NBD_REPLY_TYPE_ERROR, the last. (NB-32)
  package static func error(cookie: UInt64, code: UInt32, into bytes: WireBuffer) {
    chunk(NBD.Chunk.error, cookie: cookie, length: 6, isLast: true, into: bytes)
    bytes.setBig(code, at: NBD.chunkHeaderByteCount)
    bytes.setBig(UInt16(0), at: NBD.chunkHeaderByteCount + 4)
  }

  package static let errorOffsetByteCount = NBD.chunkHeaderByteCount + 14

  /// NBD_REPLY_TYPE_ERROR_OFFSET, the last. (NB-32)
  package static func error(cookie: UInt64, code: UInt32, offset: UInt64, into bytes: WireBuffer) {
    chunk(NBD.Chunk.errorOffset, cookie: cookie, length: 14, isLast: true, into: bytes)
    bytes.setBig(code, at: NBD.chunkHeaderByteCount)
    bytes.setBig(UInt16(0), at: NBD.chunkHeaderByteCount + 4)
    bytes.setBig(offset, at: NBD.chunkHeaderByteCount + 6)
  }

  /// Bytes of NBD_REPLY_TYPE_BLOCK_STATUS with so many extents.
  package static func statusByteCount(_ extentCount: Int) -> Int {
    NBD.chunkHeaderByteCount + 4 + 8 * extentCount
  }

  /// NBD_REPLY_TYPE_BLOCK_STATUS, the last; `extent` sets those behind it. (NB-33)
  package static func status(cookie: UInt64, extentCount: Int, into bytes: WireBuffer) {
    chunk(
      NBD.Chunk.blockStatus, cookie: cookie, length: UInt32(4 + 8 * extentCount), isLast: true,
      into: bytes)
    bytes.setBig(NBD.allocationContextNumber, at: NBD.chunkHeaderByteCount)
  }

  package static func extent(_ index: Int, byteCount: UInt32, flags: UInt32, into bytes: WireBuffer)
  {
    bytes.setBig(byteCount, at: statusByteCount(index))
    bytes.setBig(flags, at: statusByteCount(index) + 4)
  }

  private static func chunk(
    _ type: UInt16, cookie: UInt64, length: UInt32, isLast: Bool, into bytes: WireBuffer
  ) {
    bytes.setBig(NBD.structuredReplyMagic, at: 0)
    bytes.setBig(isLast ? NBD.replyIsDone : 0, at: 4)
    bytes.setBig(type, at: 6)
    bytes.setBig(cookie, at: 8)
    bytes.setBig(length, at: 16)
  }
}
