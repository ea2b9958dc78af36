import FabricCommandLine
import FabricHostDriver
import FabricIOProtocol
import FabricStorage

/// The paths of a device, as its process tells of them.
struct DevicePaths: Codable, Sendable {
  var policy: String
  var paths: [Path]

  struct Path: Codable, Sendable {
    var url: String
    /// `ready`, `connecting`, `waiting` or `given up`.
    var state: String
    /// Of `waiting`: how many attempts have failed, and the seconds until the next.
    var attempt: Int?
    var nextSeconds: Double?
    /// `optimised`, `non-optimised` or `inaccessible`.
    var access: String
    var reason: String?
    var inFlight: Int
    /// What requests of late have taken.
    var latencyMicroseconds: Double?
    var requests: UInt64
    var readBytes: UInt64
    var writeBytes: UInt64
    var errors: UInt64
    var losses: UInt64
    var resent: UInt64
    var recovered: UInt64

    init(_ report: PathReport) {
      url = "\(report.address)"
      access = report.accessState.description
      switch report.state {
      case .ready: state = "ready"
      case .connecting: state = "connecting"
      case .givenUp: state = "given up"
      case .waiting(let attempt, let next):
        state = "waiting"
        self.attempt = attempt
        nextSeconds = next / .seconds(1)
      }
      reason = report.reason.isEmpty ? nil : report.reason
      inFlight = report.inFlightCount
      latencyMicroseconds = report.latency.map { $0 / .microseconds(1) }
      requests = report.counters.requestCount
      readBytes = report.counters.readByteCount
      writeBytes = report.counters.writtenByteCount
      errors = report.counters.errorCount
      losses = report.counters.lossCount
      resent = report.counters.resentCount
      recovered = report.counters.recoveredCount
    }
  }

  var json: JSON {
    .object([("policy", .text(policy)), ("paths", .list(paths.map(\.json)))])
  }
}

extension DevicePaths.Path {
  var json: JSON {
    .object([
      ("url", .text(url)), ("state", .text(state)),
      ("attempt", attempt.map { .whole(UInt64($0)) } ?? .null),
      ("nextSeconds", nextSeconds.map { .number($0) } ?? .null), ("access", .text(access)),
      ("reason", reason.map { .text($0) } ?? .null), ("inFlight", .whole(UInt64(inFlight))),
      ("latencyMicroseconds", latencyMicroseconds.map { .number($0) } ?? .null),
      ("requests", .whole(requests)), ("readBytes", .whole(readBytes)),
      ("writeBytes", .whole(writeBytes)), ("errors", .whole(errors)),
      ("losses", .whole(losses)), ("resent", .whole(resent)), ("recovered", .whole(recovered)),
    ])
  }

  /// Where it stands, in a word: what the unit calls it while it is connected.
  var standing: String { state == "ready" ? access : state }

  /// What the columns of the table hold, in the order of `columns`.
  var cells: [String] {
    [
      url, standing, latencyMicroseconds.map { "\(Int($0)) us" } ?? "-",
      "\(inFlight)", "\(requests)", ByteSize.describe(readBytes), ByteSize.describe(writeBytes),
      "\(errors)", "\(losses)", "\(resent)", "\(recovered)",
    ]
  }

  static let columns = [
    "path", "state", "latency", "under way", "requests", "read", "written", "errors", "losses",
    "resent", "recovered",
  ]

  /// Why it is not ready, and what comes next.
  var trouble: String? {
    guard let reason else { return nil }
    let next =
      nextSeconds.map {
        "attempt \(attempt ?? 0), next in \(rounded($0, 1)) s, because "
      } ?? ""
    return "\(url): \(next)\(reason)"
  }
}

/// Columns as wide as what they hold: the first one to the left, the others to the right.
func table(_ rows: [[String]]) -> [String] {
  guard let first = rows.first else { return [] }
  let widths = first.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    row.enumerated().map { column, cell in
      let space = String(repeating: " ", count: widths[column] - cell.count)
      return column == 0 ? cell + space : space + cell
    }.joined(separator: "  ")
  }
}
