/// Builds a record byte by byte, little-endian.
package struct WireWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  package mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  package mutating func append(_ name: String) { bytes.append(contentsOf: name.utf8) }
}

extension Array<UInt8> {
  /// Lends the bytes as a view.
  package func withWireView<Value, Failure: Error>(
    _ body: (WireView) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    // An empty array may have no address; a view needs one.
    var copy = self
    copy.append(0)
    let count = self.count
    let result = unsafe copy.withUnsafeBytes { bytes -> Result<Value, Failure> in
      do throws(Failure) {
        return .success(try body(unsafe WireView(bytes.baseAddress!, byteCount: count)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
