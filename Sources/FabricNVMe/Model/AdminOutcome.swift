/// What becomes of a command that the controller answers by itself.
public enum AdminOutcome: Equatable, Sendable {
  /// It has ended.
  case done(Status, result: UInt64 = 0)
  /// It ends well, with data for the host: no more than it has asked for.
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
  /// Ends the connection: its controller is no more.
  func end()
}
