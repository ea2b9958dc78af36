import FabricCommandLine
import FabricConformance
import FabricPlatform
import Foundation
import Synchronization

/// A host that was started for a case, in a process group of its own, which ends with it; what it says goes nowhere.
final class StartedProgram: HostProgram {
  private let identifier: pid_t
  var status: Int32? {
    if ended == nil { ended = Self.status(of: identifier, waiting: false) }
    return ended
  }
  private var ended: Int32?
  /// The one that lives; 0: none. A signal ends it with this process.
  private static let living = Atomic<pid_t>(0)

  /// - Throws: with code 66 when there is no such program.
  init(_ arguments: [String]) throws(ToolFailure) {
    var attributes = posix_spawnattr_t()
    var files = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawnattr_init(&attributes)
    unsafe posix_spawn_file_actions_init(&files)
    defer {
      unsafe posix_spawnattr_destroy(&attributes)
      unsafe posix_spawn_file_actions_destroy(&files)
    }
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    unsafe posix_spawnattr_setpgroup(&attributes, 0)
    for descriptor: CInt in 0...2 {
      unsafe posix_spawn_file_actions_addopen(&files, descriptor, "/dev/null", O_RDWR, 0)
    }
    let words = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { for index in unsafe words.indices { unsafe free(words[index]) } }
    var found: pid_t = 0
    let error = unsafe posix_spawnp(&found, arguments[0], &files, &attributes, words, environ)
    guard error == 0 else {
      throw ToolFailure(
        66, "expected to start \(arguments[0]), got \"\(Errno(rawValue: error))\"")
    }
    identifier = found
    Self.living.store(found, ordering: .sequentiallyConsistent)
  }

  func end() {
    kill(-identifier, SIGKILL)
    if ended == nil { ended = Self.status(of: identifier, waiting: true) }
    Self.living.store(0, ordering: .sequentiallyConsistent)
  }

  /// As a shell has it: the exit code, or 128 and the signal.
  private static func status(of identifier: pid_t, waiting: Bool) -> Int32? {
    var word: Int32 = 0
    guard unsafe waitpid(identifier, &word, waiting ? 0 : WNOHANG) == identifier else { return nil }
    let signal = word & 0x7f
    return signal == 0 ? (word >> 8) & 0xff : 128 + signal
  }

  /// From here on SIGINT and SIGTERM end what was started, too.
  static func endWithSignals() {
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        let living = StartedProgram.living.load(ordering: .sequentiallyConsistent)
        if living > 0 { kill(-living, SIGKILL) }
        _exit(128 + number)
      }
    }
  }
}
