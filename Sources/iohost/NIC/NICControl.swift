import FabricCommandLine
import FabricNIC
import FabricPlatform

/// What a command asks of the process that serves an interface: one object of JSON in a packet, answered with
/// one. (NI-41)
struct NICRequest: Codable {
  /// `status`, `show`, `rename` or `detach`.
  var request: String
  /// Of `rename`: what the interface is to be called.
  var name: String?

  init(_ request: String, name: String? = nil) {
    self.request = request
    self.name = name
  }
}

/// What it answers. Where it could not be done `code` is the exit code and `words` say why.
struct NICAnswer: Codable {
  var code: Int32?
  var words: String?
  var status: NICStatus?

  init(_ status: NICStatus) { self.status = status }

  init(_ failure: ToolFailure) {
    code = failure.code
    words = failure.words
  }

  func get() throws(ToolFailure) -> NICStatus {
    guard let status else {
      throw ToolFailure(code ?? 74, words ?? "expected the interface's state, got nothing")
    }
    return status
  }
}

/// What is to be known of an interface.
struct NICStatus: Codable {
  var name: String
  var url: String
  /// `connecting`, `attached`, `failed` or `dead`.
  var state: String
  var reason: String?
  /// What the unit calls itself.
  var unit: String?
  var address: String?
  var mtu: Int?
  var isUp: Bool?
  var processIdentifier: Int32
  var log: String
  /// Of this half, and of the unit's; by name.
  var counts: [String: UInt64]?
  var unitCounts: [String: UInt64]?

  init(name: String, url: String, state: String, processIdentifier: Int32, log: String) {
    self.name = name
    self.url = url
    self.state = state
    self.processIdentifier = processIdentifier
    self.log = log
  }

  /// A line each, in columns.
  static func describe(_ all: [NICStatus]) {
    let rows = all.map { one in
      let link = one.isUp.map { ", link \($0 ? "up" : "down")" } ?? ""
      return [
        one.name, one.url, one.state + link, one.address ?? "", one.mtu.map { "MTU \($0)" } ?? "",
      ]
    }
    for (one, line) in zip(all, inColumns(rows)) {
      Output.line(line)
      if let reason = one.reason { Output.line("  \(reason)") }
      if one.state == "connecting" { Output.line("  log: \(one.log)") }
    }
  }

  func describeCounts() {
    let rows = NICStatistics.fields.map { name, _ in
      [
        name, counts?[name].map { "\($0)" } ?? "-", unitCounts?[name].map { "\($0)" } ?? "-",
      ]
    }
    for line in Self.inColumns([["", "here", "unit"]] + rows) { Output.line(line) }
  }

  /// Lines whose fields begin below each other.
  private static func inColumns(_ rows: [[String]]) -> [String] {
    let count = rows.first?.count ?? 0
    let widths = (0..<count).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let line = zip(row, widths).map { field, width in
        field + String(repeating: " ", count: width - field.count + 2)
      }.joined()
      return String(line.reversed().drop { $0 == " " }.reversed())
    }
  }

  var json: JSON {
    func object(_ counts: [String: UInt64]?) -> JSON {
      counts.map { counts in
        .object(NICStatistics.fields.map { ($0.name, .whole(counts[$0.name] ?? 0)) })
      } ?? .null
    }
    return .object([
      ("name", .text(name)), ("url", .text(url)), ("state", .text(state)),
      ("reason", reason.map { .text($0) } ?? .null), ("unit", unit.map { .text($0) } ?? .null),
      ("address", address.map { .text($0) } ?? .null),
      ("mtu", mtu.map { .whole(UInt64($0)) } ?? .null),
      ("link", isUp.map { .text($0 ? "up" : "down") } ?? .null),
      ("process", .whole(UInt64(processIdentifier))), ("log", .text(log)),
      ("counts", object(counts)), ("unitCounts", object(unitCounts)),
    ])
  }
}

extension NICStatistics {
  /// By name.
  var named: [String: UInt64] {
    Dictionary(uniqueKeysWithValues: Self.fields.map { ($0.name, self[keyPath: $0.path]) })
  }
}
