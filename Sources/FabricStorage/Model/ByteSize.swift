/// Sizes as people write them.
public enum ByteSize {
  /// Why a size was refused.
  public enum ParsingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Not a number with an optional unit.
    case malformed(String)
    /// Zero bytes.
    case zero(String)
    /// More than a file can hold (8 EiB).
    case tooLarge(String)

    public var description: String {
      let expected = "expected a size such as 4096, 512MiB, 1GiB or 1.5TiB"
      return switch self {
      case .malformed(let text): "\(expected), got \"\(text)\""
      case .zero(let text): "\(expected), got \"\(text)\", which is nothing"
      case .tooLarge(let text): "expected a size below 8EiB, got \"\(text)\""
      }
    }
  }

  private static let units: [(name: String, byteCount: UInt64)] = [
    ("", 1), ("b", 1),
    ("k", 1 << 10), ("kib", 1 << 10), ("m", 1 << 20), ("mib", 1 << 20),
    ("g", 1 << 30), ("gib", 1 << 30), ("t", 1 << 40), ("tib", 1 << 40),
    ("p", 1 << 50), ("pib", 1 << 50),
    ("kb", 1_000), ("mb", 1_000_000), ("gb", 1_000_000_000), ("tb", 1_000_000_000_000),
  ]

  /// Reads a size in bytes. Units are powers of 1024 (`K`, `KiB`, ... `PiB`) or of 1000 (`KB` ...
  /// `TB`), in either case; a fraction is allowed when it comes out at whole bytes.
  public static func parse(_ text: String) throws(ParsingError) -> UInt64 {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = text.dropFirst(number.count).lowercased()
    let parts = number.split(separator: ".", omittingEmptySubsequences: false)
    guard let scale = units.first(where: { $0.name == unit })?.byteCount,
      parts.count == 1 || parts.count == 2, !parts[0].isEmpty, parts.last?.isEmpty == false
    else { throw .malformed(text) }
    guard let whole = UInt64(parts[0]) else { throw .tooLarge(text) }
    var fraction: UInt64 = 0
    if parts.count == 2 {
      guard parts[1].count <= 6, let digits = UInt64(parts[1]) else { throw .malformed(text) }
      let divisor = (0..<parts[1].count).reduce(UInt64(1)) { power, _ in power * 10 }
      let product = digits.multipliedReportingOverflow(by: scale)
      guard !product.overflow, product.partialValue.isMultiple(of: divisor) else {
        throw .malformed(text)
      }
      fraction = product.partialValue / divisor
    }
    let product = whole.multipliedReportingOverflow(by: scale)
    let sum = product.partialValue.addingReportingOverflow(fraction)
    guard !product.overflow, !sum.overflow, sum.partialValue <= UInt64(Int64.max) else {
      throw .tooLarge(text)
    }
    guard sum.partialValue > 0 else { throw .zero(text) }
    return sum.partialValue
  }

  /// The size in the largest unit that gives a whole number, such as `512MiB`.
  public static func describe(_ byteCount: UInt64) -> String {
    let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    var value = byteCount
    var index = 0
    while value >= 1024, value.isMultiple(of: 1024), index + 1 < names.count {
      value /= 1024
      index += 1
    }
    return "\(value)\(names[index])"
  }
}
