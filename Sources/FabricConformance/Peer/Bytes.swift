/// Records are put together and taken apart by hand here, little-endian: what is judged is not to judge itself.
extension [UInt8] {
  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    for shift in stride(from: 0, to: Value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> Value(shift)))
    }
  }

  mutating func put(_ text: String) { self += Array(text.utf8) }

  mutating func put(zeroes count: Int) { self += [UInt8](repeating: 0, count: count) }

  /// Puts a value where another one is.
  mutating func set<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    for index in 0..<Value.bitWidth / 8 {
      self[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index))
    }
  }

  /// The value at an offset; where the bytes end before it, what is missing is 0: lengths are checked first.
  func number<Value: FixedWidthInteger>(_ type: Value.Type, at offset: Int) -> Value {
    var value: Value = 0
    for index in (0..<Value.bitWidth / 8).reversed() {
      value = value << 8 | Value(offset + index < count ? self[offset + index] : 0)
    }
    return value
  }

  /// The text in a range, as far as there is one.
  func text(at offset: Int, byteCount: Int) -> String {
    String(decoding: dropFirst(offset).prefix(byteCount), as: UTF8.self)
  }
}
