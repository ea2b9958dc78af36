import CFabricLinux

/// Three blocks of one length, summed side by side and put together.
///
/// The sum of bytes behind others is the sum of the others, moved on by as many zero bytes, and
/// that of the bytes from 0 on, one over the other: the sum is linear. What a move makes of each
/// byte of a sum is kept in tables.
struct ChecksumShift: Sendable {
  let byteCount: Int
  /// For each byte of a sum and each value of it.
  private let table: [UInt32]

  /// - Parameter byteCount: of a block, a multiple of 8.
  init(byteCount: Int) {
    precondition(byteCount % 8 == 0, "blocks of whole words")
    self.byteCount = byteCount
    let zeroes = [UInt8](repeating: 0, count: byteCount)
    let ofBits = (0..<32).map { bit in unsafe fabric_crc32c(1 << bit, zeroes, byteCount) }
    var table = [UInt32](repeating: 0, count: 1024)
    for place in 0..<4 {
      for value in 0..<256 {
        for bit in 0..<8 where value >> bit & 1 == 1 {
          table[place * 256 + value] ^= ofBits[place * 8 + bit]
        }
      }
    }
    self.table = table
  }

  /// The sum of three blocks behind what `state` has.
  @unsafe
  func add(_ bytes: UnsafePointer<UInt8>, to state: UInt32) -> UInt32 {
    var first = state
    var second: UInt32 = 0
    var third: UInt32 = 0
    unsafe fabric_crc32c_three(&first, &second, &third, bytes, byteCount)
    return move(move(first) ^ second) ^ third
  }

  private func move(_ state: UInt32) -> UInt32 {
    table[Int(state & 255)] ^ table[256 + Int(state >> 8 & 255)]
      ^ table[512 + Int(state >> 16 & 255)] ^ table[768 + Int(state >> 24)]
  }
}
