import CFabricLinux
import FabricCommandLine
import FabricPlatform

/// A process of this program's that this one has started, and a socket to it: its descriptor 3.
struct Descendant {
  let processIdentifier: Int32
  let socket: SequencedSocket

  /// Its end of the socket, in the process that was started.
  static let descriptor: CInt = 3

  /// Starts this program with other arguments, in a session of its own. It has our standard output
  /// and errors.
  static func start(_ arguments: [String]) throws(ToolFailure) -> Descendant {
    var pair: (CInt, CInt) = (-1, -1)
    let made = unsafe withUnsafeMutableBytes(of: &pair) {
      unsafe fabric_sequenced_pair($0.baseAddress!.assumingMemoryBound(to: CInt.self))
    }
    let null = unsafe fabric_open_existing("/dev/null", O_RDONLY)
    guard made == 0, null >= 0 else {
      throw ToolFailure(71, "expected descriptors for a process, got \"\(Errno.current)\"")
    }
    _ = fabric_set_nonblocking(pair.0)
    let ours = SequencedSocket(connected: pair.0)
    let theirs = Descriptor(owning: pair.1)
    let input = Descriptor(owning: null)
    var words: [UnsafeMutablePointer<CChar>?] = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe words.forEach { unsafe free($0) } }
    var child: CInt = 0
    let error = unsafe fabric_spawn_self(
      &words, input.rawValue, 1, 2, theirs.rawValue, &child)
    guard error == 0 else {
      throw ToolFailure(
        71, "expected to start a process of this program, got \"\(Errno(rawValue: error))\"")
    }
    return Descendant(processIdentifier: child, socket: ours)
  }

  /// Waits for its end.
  func join() {
    var status: CInt = 0
    while unsafe waitpid(processIdentifier, &status, 0) < 0, Errno.current == .interrupted {}
  }
}
