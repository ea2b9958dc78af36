public import FabricIOProtocol
import FabricMessaging
import Glibc

/// A control call under way.
struct PendingControl {
  let call: ControlCall
  /// The path that it is to take; nil: any.
  let path: Int?
  let completed: (ControlAnswer) -> Void
  /// The connection that it was sent over; 0: none yet.
  var connection: UInt32 = 0
}

/// Requests like ioctls, to the unit and back. (IO-70)
extension RemoteVolumeQueue {
  /// The most control calls at a time.
  public static let maximumControlCount = 16

  /// Sends a control call. While there is no connection it waits for one, as requests do, and where these are refused
  /// it is, with EIO. One that was
  /// sent over a connection that is lost is sent again, except for those of vendors, which may have
  /// effects: they end with EIO, and nobody knows whether they were done.
  ///
  /// - Parameters:
  ///   - path: the number of the path to take, of `pathReports`; nil: any. One that is not connected
  ///     fails at once with ENOTCONN.
  ///   - completed: called once, on the service's thread; with EAGAIN at once when 16 are under way, with
  ///     ESHUTDOWN when the queue is closed or given up.
  public func control(
    _ call: ControlCall, by path: Int? = nil, completed: @escaping (ControlAnswer) -> Void
  ) {
    switch state {
    case .failed, .closed: return completed(ControlAnswer(errno: ESHUTDOWN))
    default: break
    }
    if isRefusing { return completed(ControlAnswer(errno: EIO)) }
    guard pendingControls.count < Self.maximumControlCount else {
      return completed(ControlAnswer(errno: EAGAIN))
    }
    if let path, !(0..<paths.count).contains(path) || !paths[path].isReady {
      return completed(ControlAnswer(errno: ENOTCONN))
    }
    lastControl = (lastControl &+ 1) & 0x7FFF_FFFF
    pendingControls[lastControl] = PendingControl(call: call, path: path, completed: completed)
    sendControls()
  }

  /// Sends what waits, in the order of the calls.
  func sendControls() {
    guard !pendingControls.isEmpty else { return }
    for tag in pendingControls.keys.sorted() {
      guard let pending = pendingControls[tag], pending.connection == 0 else { continue }
      for path in paths.paths where path.isReady && (pending.path ?? path.index) == path.index {
        let refusal = path.channel?.send(
          kind: MessageKind.control.rawValue, tag: tag, bytes: pending.call.encoded())
        guard path.channel != nil, refusal == nil else { continue }
        pendingControls[tag]?.connection = path.serial
        path.channel?.flush()
        break
      }
    }
  }

  /// An answer has come. False when nothing was asked.
  func controlAnswered(_ message: IncomingMessage, over connection: PathConnection) -> Bool {
    guard let answer = try? ControlAnswer(decoding: message.payload),
      let pending = pendingControls[message.tag], pending.connection == connection.serial
    else { return false }
    pendingControls[message.tag] = nil
    if pending.call.code == .rescan, answer.errno == 0 { heardOfSize(answer.payload) }
    pending.completed(answer)
    return true
  }

  /// The unit has looked how large the volume is: blocks, of 8 bytes. (IO-72)
  private func heardOfSize(_ payload: [UInt8]) {
    let count = payload.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard payload.count == 8, let known = info, count > known.blockCount,
      !count.multipliedReportingOverflow(by: UInt64(known.blockByteCount)).overflow
    else { return }
    let found = known.grown(to: count)
    info = found
    guard case .attached = state else { return }
    state = .attached(found)
    handler.remoteVolume(self, changed: state)
  }

  /// A connection has gone: its calls wait for another, or end.
  func loseControls(of connection: UInt32) {
    for (tag, pending) in pendingControls where pending.connection == connection {
      if pending.call.code.isVendors || pending.path != nil {
        pendingControls[tag] = nil
        pending.completed(ControlAnswer(errno: EIO))
      } else {
        pendingControls[tag]?.connection = 0
      }
    }
  }

  /// Nothing is answered any more.
  func endControls(_ errno: Int32) {
    let ending = pendingControls
    pendingControls = [:]
    for pending in ending.values { pending.completed(ControlAnswer(errno: errno)) }
  }
}
