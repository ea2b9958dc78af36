/// Just enough JSON to report with.
enum JSON {
  case text(String)
  case whole(UInt64)
  case signed(Int64)
  case number(Double)
  case flag(Bool)
  case null
  case list([JSON])
  case object([(String, JSON)])

  var description: String {
    switch self {
    case .text(let value): Self.quoted(value)
    case .whole(let value): "\(value)"
    case .signed(let value): "\(value)"
    case .number(let value): value.isFinite ? "\(value)" : "null"
    case .flag(let value): "\(value)"
    case .null: "null"
    case .list(let values): "[" + values.map(\.description).joined(separator: ", ") + "]"
    case .object(let pairs):
      "{" + pairs.map { "\(Self.quoted($0)): \($1.description)" }.joined(separator: ", ") + "}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
