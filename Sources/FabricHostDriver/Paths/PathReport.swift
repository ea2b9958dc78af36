public import FabricIOProtocol
import FabricMessaging
import FabricPlatform

/// How a path is doing, as it was when it was asked.
public struct PathReport: Sendable {
  /// Where a path stands.
  public enum State: Sendable, Equatable {
    /// Requests go by it.
    case ready
    /// An attempt to connect is under way.
    case connecting
    /// The last attempt failed, or the connection was lost; there is another attempt after `next`.
    case waiting(attempt: Int, next: Duration)
    /// There is no further attempt.
    case givenUp
  }

  public let address: VolumeAddress
  public let state: State
  /// As the unit says; what it last said while there is no connection.
  public let accessState: PathState
  /// Why it is not ready; empty while it is.
  public let reason: String
  /// Requests under way.
  public let inFlightCount: Int
  /// What requests of late have taken, on average; nil: not known.
  public let latency: Duration?
  public let counters: PathCounters
}

extension RemoteVolumeQueue {
  /// How each path is doing, in the order given. Allocates; for who looks now and then.
  public var pathReports: [PathReport] { paths.paths.map(report(of:)) }

  private func report(of path: VolumePath) -> PathReport {
    let state: PathReport.State
    if path.isReady {
      state = .ready
    } else if let due = path.reconnectAt {
      state = .waiting(
        attempt: path.backoff.attemptCount,
        next: .nanoseconds(max(0, due.nanoseconds(since: .now))))
    } else {
      state = path.connection == nil ? .givenUp : .connecting
    }
    return PathReport(
      address: path.address, state: state, accessState: path.accessState,
      reason: path.isReady ? "" : path.lossReason, inFlightCount: path.sentCount,
      latency: path.latency == 0 ? nil : .nanoseconds(Int64(path.latency)),
      counters: path.counters)
  }
}
