/// What becomes of a device when the process that serves it dies without a word. (HD-65, HD-75)
public enum DeviceRecovery: String, CaseIterable, Codable, Sendable {
  /// The device goes.
  case fail
  /// Another process serves it on: what was under way ends with an error, what comes waits.
  case queue
  /// And what was under way is given to that process again.
  case reissue
}
