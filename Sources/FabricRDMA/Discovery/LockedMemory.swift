import FabricPlatform
import FabricVerbs
import Glibc

/// How much memory this process may lock, and how much of it devices hold: every page that they reach
/// stays where it is.
struct LockedMemory: Equatable {
  /// Bytes; nil without a limit, which is also for those with CAP_IPC_LOCK.
  var limit: UInt64?
  /// Bytes that devices hold; the limit counts them.
  var byteCount: UInt64 = 0

  static func now() -> LockedMemory {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limit) == 0,
      limit.rlim_cur != rlim_t.max
    else { return LockedMemory() }
    let status = KernelFile.text("/proc/self/status") ?? ""
    if mayLockAnything(status) { return LockedMemory() }
    let kibibytes = field("VmPin", of: status)?.split(separator: " ").first.flatMap { UInt64($0) }
    return LockedMemory(limit: UInt64(limit.rlim_cur), byteCount: (kibibytes ?? 0) << 10)
  }

  /// The right counts among the machine's users, not among those that a container has mapped.
  private static func mayLockAnything(_ status: String) -> Bool {
    guard let mask = field("CapEff", of: status), let bits = UInt64(mask, radix: 16),
      bits & (1 << 14) != 0
    else { return false }
    let users = KernelFile.text("/proc/self/uid_map")?.split(whereSeparator: \.isWhitespace)
    return users.map { $0 == ["0", "0", "4294967295"] } ?? true
  }

  private static func field(_ name: String, of status: String) -> Substring? {
    status.split(separator: "\n").first { $0.hasPrefix("\(name):") }?
      .drop { $0 != "\t" }.drop { $0 == "\t" || $0 == " " }
  }

  /// Whether the limit is why a call failed.
  ///
  /// - Parameter asked: bytes that were to be locked, in whole pages; nil where that is the device's
  ///   business. Queues of many devices are locked memory, of others not.
  func explains(_ error: Errno, asked: UInt64?) -> Bool {
    guard let limit,
      [.noMemory, .wouldBlock, .notPermitted, .permissionDenied].contains(error)
    else { return false }
    // A page of another's that came or went meanwhile changes nothing of what is to be done.
    guard let asked else { return limit < RDMASurvey.neededLockByteCount }
    return byteCount + asked > limit
  }

  /// What to tell of a call that failed; nil where the limit is not why.
  func problem(_ error: Errno, doing: String, asked: UInt64?) -> RDMAProblem? {
    guard let limit, explains(error, asked: asked) else { return nil }
    return .lockLimitReached(doing: doing, limit: limit, locked: byteCount)
  }
}

extension ResourceError {
  /// Why something of a device could not be made: the limit on locked memory where that may be it.
  static func refusal(_ error: Errno, doing: String) -> ResourceError {
    if let problem = LockedMemory.now().problem(error, doing: doing, asked: nil) {
      return .refused(problem.description)
    }
    return .system(error, doing: doing)
  }

  /// Why a file of devices could not be opened: who may use it where that is it.
  ///
  /// - Parameter path: of the file.
  static func refusal(_ error: Errno, opening path: String, doing: String) -> ResourceError {
    switch RDMASurvey.failure(toOpen: path, error) {
    case .permissionDenied, .notPermitted:
      .refused(RDMAProblem.notPermitted(path: path).description)
    default: .system(error, doing: doing)
    }
  }
}
