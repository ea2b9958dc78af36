import FabricBounded
import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricStorage
import Glibc

/// Connections: how they go.
extension RemoteVolumeQueue {
  /// A connection has gone: what it had under way waits until the unit has fenced it.
  func lost(_ connection: PathConnection, because reason: String) {
    let path = connection.path
    guard path.connection === connection else { return }
    let wasReady = path.isReady
    let wasProven = path.isProven
    strand(connection)
    drop(path)
    loseControls(of: connection.serial)
    path.lossReason = reason
    if wasReady { path.counters.lossCount += 1 }
    switch state {
    case .attached where wasReady:
      if wasProven {
        options.log("lost \(path.address), because \(reason); \(consequence)")
      }
      if !paths.paths.contains(where: \.isReady) {
        if isProven { lostAt = .now }
        isProven = false
        reconnectCount += 1
        state = .connecting
        handler.remoteVolume(self, changed: state)
        guard case .connecting = state else { return }
      } else {
        sendFences()
        sendControls()
        postUnsent()
        flushSubmissions()
      }
      if wasProven {
        connect(path)
      } else {
        attemptFailed(path, .turnedAway(address: path.address, reason: reason))
      }
    case .attached, .connecting:
      attemptFailed(path, .turnedAway(address: path.address, reason: reason))
    case .failed, .closed: break
    }
  }

  /// What becomes of requests when a path is lost.
  private var consequence: String {
    let count = paths.paths.count(where: \.isUsable)
    return count == 0
      ? "connecting again" : "going on by \(count) other path\(count == 1 ? "" : "s")"
  }

  /// Marks what was sent over a connection: it may still be alive at the unit.
  private func strand(_ connection: PathConnection) {
    var isNeeded = false
    for index in 0..<slots.count
    where slots[index].isSent && slots[index].connection == connection.serial {
      takeBackLoan(index)
      slots[index].isSent = false
      slots[index].isStranded = true
      isNeeded = true
    }
    if isNeeded { dead.append(DeadConnection(connection)) }
  }

  func attemptFailed(_ path: VolumePath, _ error: RemoteVolumeError) {
    drop(path)
    path.hasTried = true
    defer { resumeHeldBack() }
    switch state {
    case .connecting, .attached: break
    case .failed, .closed: return
    }
    path.lossReason = error.description
    if isHopeless(error) {
      path.hopelessness = error
      guard paths.paths.contains(where: { $0.hopelessness == nil }) else {
        return fail(paths[0].hopelessness ?? error)
      }
      options.log("expected \(path.address) to be a path to the volume: \(error)")
      return
    }
    planAttempt(path)
  }

  /// Whether a further attempt is worth nothing, or, at first, not worth waiting for.
  private func isHopeless(_ error: RemoteVolumeError) -> Bool {
    if case .volumeChanged = error, options.isPatientWithOthers { return false }
    if error.isForGood { return true }
    if info != nil { return false }
    // Later a refusal may heal: the unit may be on its way to be what it was.
    if case .refused = error { return true }
    return !mayTryAgainAtFirst(after: error)
  }

  /// So many attempts in a row are logged, and then one in as many.
  private static let loggedAttemptCount = 60

  func planAttempt(_ path: VolumePath) {
    let wait = path.backoff.next(using: &chance)
    let count = path.backoff.attemptCount
    // A path that is away for days is not to fill the log.
    if count <= Self.loggedAttemptCount || count.isMultiple(of: Self.loggedAttemptCount) {
      let name = paths.count == 1 ? "" : " at \(path.address)"
      options.log(
        "attempt \(count)\(name), next in \(RemoteVolumeError.seconds(wait)), "
          + "because \(path.lossReason)")
    }
    path.reconnectAt = .now + wait
    service.deadlinesHaveChanged()
  }

  /// Whether a first attempt has another behind it: where the user is patient, and, for as long as
  /// one attempt may take, where the unit was there and hung up. In a flood of strangers it does so
  /// with who was unlucky.
  private func mayTryAgainAtFirst(after error: RemoteVolumeError) -> Bool {
    if options.isPatientAtFirst { return true }
    guard case .turnedAway = error else { return false }
    return .now < lostAt + options.attemptTimeout
  }

  /// Gives up: everything ends, now and later.
  func fail(_ error: RemoteVolumeError) {
    for path in paths.paths {
      drop(path)
      path.reconnectAt = nil
    }
    state = .failed(error)
    handler.remoteVolume(self, changed: state)
    endControls(ESHUTDOWN)
    if case .failed = state { endAll() }
  }

  /// No path could be used for `queueTimeout`: what waits ends, and so does what comes, until one can again.
  func refuseWaiting() {
    isRefusing = true
    options.log(
      "no path to \(address) for \(RemoteVolumeError.seconds(options.queueTimeout ?? .zero)): "
        + "requests fail until there is one; the first one is missing because "
        + paths[0].absence)
    endControls(EIO)
    endAll()
  }
}
