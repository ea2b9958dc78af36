import Foundation

/// Figures by name, printed as a table or as JSON.
struct Report {
  private(set) var rows: [(name: String, value: Any, shown: String)] = []

  mutating func add(_ name: String, _ value: Double, digits: Int = 3) {
    rows.append((name, value, String(format: "%.\(digits)f", value)))
  }

  mutating func add(_ name: String, _ value: Int) { rows.append((name, value, "\(value)")) }

  mutating func add(_ name: String, _ value: String) { rows.append((name, value, value)) }

  /// Several figures under one name: `name.key`.
  mutating func add(_ name: String, _ values: [(String, Double)]) {
    rows.append(
      (
        name, Dictionary(uniqueKeysWithValues: values),
        values.map { "\($0.0) \(String(format: "%.3f", $0.1))" }.joined(separator: "  ")
      ))
  }

  func print(json: Bool) throws {
    guard json else {
      let width = rows.map(\.name.count).max() ?? 0
      for row in rows {
        Swift.print(row.name.padding(toLength: width + 2, withPad: " ", startingAt: 0) + row.shown)
      }
      return
    }
    let object = Dictionary(uniqueKeysWithValues: rows.map { ($0.name, $0.value) })
    let data = try JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys])
    Swift.print(String(decoding: data, as: UTF8.self))
  }
}
