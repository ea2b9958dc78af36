/// What becomes of a command that the controller answers by itself.
public enum AdminOutcome: Equatable, Sendable {
  /// It has ended.
  case done(Status, result: UInt64 = 0)
  /// It ends well, with all of this data for the host, if that has room for it.
  case data([UInt8])
  /// It ends later, by `ControllerLink.answer`.
  case held

  /// Ended well, with nothing to say.
  static var success: AdminOutcome { .done(.success) }
}

/// A queue's way to its host, as the controller uses it. Class-bound: a connection is one.
public protocol ControllerLink: AnyObject {
  /// What was done over it.
  var counters: IOCounters { get }
  /// Answers a command that was held.
  func answer(_ identifier: UInt16, _ status: Status, result: UInt64)
  /// Commands that were held end without an answer.
  func forgetHeld()
  /// Ends the connection: the controller, or this queue of it, is no more.
  func end()
}
