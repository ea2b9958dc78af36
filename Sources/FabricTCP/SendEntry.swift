import FabricVerbs

/// What the send queue keeps of a request until it has ended.
struct SendEntry: BitwiseCopyable {
  /// Bytes of a request with `.inline`.
  static let maximumInlineByteCount = 128

  var request: SendRequest
}

/// Bytes that lie together.
struct Piece {
  var address: UInt64 = 0
  var byteCount = 0
}

extension ScatterGatherList {
  /// At most `limit` bytes from `offset` on, in the one or two pieces that they lie in.
  func pieces(_ offset: Int, atMost limit: Int) -> (first: Piece, second: Piece) {
    let firstCount = Int(first.byteCount)
    if offset == 0 && second.byteCount == 0 {
      return (Piece(address: first.address, byteCount: min(limit, firstCount)), Piece())
    }
    var head = Piece()
    if offset < firstCount {
      head = Piece(
        address: first.address &+ UInt64(offset), byteCount: min(limit, firstCount - offset))
    }
    let inSecond = max(0, offset - firstCount)
    let tail = Piece(
      address: second.address &+ UInt64(inSecond),
      byteCount: min(limit - head.byteCount, max(0, Int(second.byteCount) - inSecond)))
    return head.byteCount > 0 ? (head, tail) : (tail, Piece())
  }
}
