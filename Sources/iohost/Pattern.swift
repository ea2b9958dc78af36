import FabricStorage
import Glibc

/// Blocks that describe themselves: what was written where is seen from each block alone.
///
/// A block begins with a mark, its number, seed, generation and a checksum of all the rest; the
/// rest follows from those.
struct Pattern: Sendable {
  static let mark: UInt64 = 0x4E52_5454_4150_4643  // "CFPATTRN"
  let seed: UInt64

  /// What a block was found to be.
  enum Found: Equatable, Sendable {
    /// A block of this pattern, in its place.
    case valid(generation: UInt64)
    /// Only zeroes: never written.
    case empty
    /// Anything else: the words say what.
    case wrong(String)
  }

  /// Whether a block is empty or one of a pattern, whole or not, of whichever seed.
  static func mayBeWritten(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let base = bytes.baseAddress!
    if unsafe bytes.loadUnaligned(as: UInt64.self) == mark { return true }
    // Empty: the first byte is zero, and each is like the one before it.
    return unsafe bytes[0] == 0 && memcmp(base, base + 1, bytes.count - 1) == 0
  }

  private static func next(_ state: inout UInt64) -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  private func start(_ block: UInt64, _ generation: UInt64) -> UInt64 {
    seed &* 0xD6E8_FEB8_6659_FD93 ^ block &* 0xA076_1D64_78BD_642F ^ generation
  }

  /// Writes block `number` to `bytes`, a whole block.
  func fill(_ bytes: UnsafeMutableRawBufferPointer, block number: UInt64, generation: UInt64) {
    var state = start(number, generation)
    var sum: UInt64 = 0
    for offset in stride(from: 40, to: bytes.count, by: 8) {
      let word = Self.next(&state)
      sum = (sum &+ word) &* 0x0100_0000_01B3
      unsafe bytes.storeBytes(of: word, toByteOffset: offset, as: UInt64.self)
    }
    for (index, word) in [Self.mark, number, seed, generation, sum].enumerated() {
      unsafe bytes.storeBytes(of: word, toByteOffset: index * 8, as: UInt64.self)
    }
  }

  /// Looks at what was read from block `number`.
  func check(_ bytes: UnsafeRawBufferPointer, block number: UInt64) -> Found {
    func word(_ index: Int) -> UInt64 {
      unsafe bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
    }
    guard word(0) == Self.mark else {
      let isEmpty = unsafe bytes.allSatisfy { $0 == 0 }
      return isEmpty ? .empty : .wrong("holds something else")
    }
    guard word(1) == number else { return .wrong("holds block \(word(1))") }
    guard word(2) == seed else { return .wrong("was written with seed \(word(2))") }
    var state = start(number, word(3))
    var sum: UInt64 = 0
    for offset in stride(from: 40, to: bytes.count, by: 8) {
      let expected = Self.next(&state)
      guard unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) == expected else {
        return .wrong("is torn or damaged at byte \(offset) (generation \(word(3)))")
      }
      sum = (sum &+ expected) &* 0x0100_0000_01B3
    }
    guard sum == word(4) else { return .wrong("has a wrong checksum") }
    return .valid(generation: word(3))
  }
}
