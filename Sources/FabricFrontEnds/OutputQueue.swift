import CFabricLinux
import FabricBounded
import FabricPlatform
import FabricWire

/// What is to be sent over one stream, in order: small pieces copied here, large ones by reference.
///
/// Grows to what was needed once and keeps that. Confined to one thread.
@safe
final class OutputQueue {
  /// Of a piece whose end nobody is told of.
  static let noToken = UInt64.max
  /// The most pieces that one system call sends.
  static let pieceLimit = 128

  private struct Piece: BitwiseCopyable {
    /// Where referenced data is; 0: it was copied here, from the position on.
    var address: UInt64 = 0
    /// Of copied bytes: counts all that were ever copied.
    var position: UInt64 = 0
    var token = OutputQueue.noToken
    var byteCount = 0
  }

  private var pieces: FixedTable<Piece>
  private var first = 0
  private var pieceCount = 0
  private var copies: UnsafeMutableRawPointer
  private var copiesCapacity: Int
  /// The position of the first byte in `copies`, and the one behind the last.
  private var copiesStart: UInt64 = 0
  private var copiesEnd: UInt64 = 0
  /// Bytes that are not with the kernel yet.
  private(set) var byteCount = 0

  init() {
    pieces = FixedTable(repeating: Piece(), count: 64)
    copiesCapacity = 4096
    unsafe copies = .allocate(byteCount: copiesCapacity, alignment: 64)
  }

  deinit { unsafe copies.deallocate() }

  var isEmpty: Bool { pieceCount == 0 }

  /// Room for the next `count` bytes, to be filled before anything else is queued.
  func appendCopy(byteCount count: Int) -> WireBuffer {
    if Int(copiesEnd &- copiesStart) &+ count > copiesCapacity { makeRoom(for: count) }
    let position = copiesEnd
    copiesEnd &+= UInt64(count)
    byteCount &+= count
    let last = pieceCount &- 1
    if last >= 0 {
      let piece = pieces[place(last)]
      if piece.address == 0, piece.token == Self.noToken,
        piece.position &+ UInt64(piece.byteCount) == position
      {
        pieces[place(last)].byteCount &+= count
        return unsafe WireBuffer(copies + Int(position &- copiesStart), byteCount: count)
      }
    }
    push(Piece(address: 0, position: position, token: Self.noToken, byteCount: count))
    return unsafe WireBuffer(copies + Int(position &- copiesStart), byteCount: count)
  }

  func appendReference(address: UInt64, byteCount count: Int, token: UInt64) {
    byteCount &+= count
    push(Piece(address: address, position: 0, token: token, byteCount: count))
  }

  /// Fills `vectors` with what comes next.
  ///
  /// - Returns: how many it filled.
  func fill(_ vectors: UnsafeMutablePointer<iovec>) -> Int {
    let count = min(pieceCount, Self.pieceLimit)
    for index in 0..<count {
      let piece = pieces[place(index)]
      let base =
        piece.address == 0
        ? unsafe copies + Int(piece.position &- copiesStart)
        : unsafe UnsafeMutableRawPointer(bitPattern: UInt(piece.address))!
      unsafe vectors[index] = iovec(iov_base: base, iov_len: piece.byteCount)
    }
    return count
  }

  /// So many bytes went out.
  ///
  /// - Parameter tokens: takes those of pieces that are out; at most `pieceLimit`.
  /// - Returns: how many tokens.
  func advance(_ count: Int, tokens: FixedTable<UInt64>) -> Int {
    var left = count
    var tokenCount = 0
    byteCount &-= count
    while left > 0 {
      let piece = pieces[first]
      if left < piece.byteCount {
        if piece.address != 0 { pieces[first].address &+= UInt64(left) }
        pieces[first].position &+= UInt64(left)
        pieces[first].byteCount &-= left
        break
      }
      left &-= piece.byteCount
      if piece.token != Self.noToken {
        tokens[tokenCount] = piece.token
        tokenCount &+= 1
      }
      first = first &+ 1 == pieces.count ? 0 : first &+ 1
      pieceCount &-= 1
    }
    if pieceCount == 0 { copiesStart = copiesEnd }
    return tokenCount
  }

  private func place(_ index: Int) -> Int {
    let place = first &+ index
    return place >= pieces.count ? place &- pieces.count : place
  }

  private func push(_ piece: Piece) {
    if pieceCount == pieces.count {
      let larger = FixedTable(repeating: Piece(), count: 2 * pieces.count)
      for index in 0..<pieceCount { larger[index] = pieces[place(index)] }
      pieces = larger
      first = 0
    }
    pieces[place(pieceCount)] = piece
    pieceCount &+= 1
  }

  /// Moves what is not out yet to the front; takes more memory where that is not enough.
  private func makeRoom(for count: Int) {
    var start = copiesEnd
    for index in 0..<pieceCount {
      let piece = pieces[place(index)]
      if piece.address == 0 {
        start = piece.position
        break
      }
    }
    let kept = Int(copiesEnd &- start)
    let source = unsafe copies + Int(start &- copiesStart)
    var capacity = copiesCapacity
    // Half full at most, so that it is not moved again soon.
    while (kept + count) * 2 > capacity { capacity *= 2 }
    if capacity == copiesCapacity {
      unsafe memmove(copies, source, kept)
    } else {
      let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
      unsafe larger.copyMemory(from: source, byteCount: kept)
      unsafe copies.deallocate()
      unsafe copies = larger
      copiesCapacity = capacity
    }
    copiesStart = start
  }
}
