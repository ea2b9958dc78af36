import FabricPlatform
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import ContractPeer

/// A process that carries out commands with an adapter of its own.
final class PeerProcess: @unchecked Sendable {
  private struct Line: ~Copyable {
    let socket: SequencedSocket
    let poller: Poller
    var isOpen = true
  }

  private let process: pid_t
  private let isEnded = Atomic(false)
  private let line: Mutex<Line>

  init(_ kind: AdapterKind) throws {
    let place = SocketPlace()
    let path = place.freshPath()
    let listener = try SequencedSocket.listen(at: path)
    defer { withExtendedLifetime(place) {} }
    let door = try Poller()
    try door.add(listener.descriptor.rawValue, tag: 0)
    process = try Self.spawn(
      Self.directory.appending(path: "ContractPeer").path, [path, kind.rawValue])
    // A signal, of a child's end, say, cuts a wait short.
    let deadline = MonotonicTime.now + .seconds(30)
    var accepted = try listener.accept()
    while accepted == nil && MonotonicTime.now < deadline {
      door.wait(timeout: .seconds(1)) { _ in }
      accepted = try listener.accept()
    }
    let socket = try #require(accepted, "the peer process did not connect")
    let poller = try Poller()
    try poller.add(socket.descriptor.rawValue, tag: 0)
    line = Mutex(Line(socket: socket, poller: poller))
  }

  deinit { kill() }

  /// Where the program lies: beside the test bundle.
  private static let directory: URL = {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
    return URL(filePath: bundle).deletingLastPathComponent()
  }()

  /// Starts a program with nothing of this process but its output. (Foundation's `Process` cannot be
  /// relied on while other threads open and close descriptors.)
  private static func spawn(_ program: String, _ arguments: [String]) throws(Errno) -> pid_t {
    var words = unsafe ([program] + arguments).map { unsafe strdup($0) } + [nil]
    defer { unsafe words.forEach { unsafe free($0) } }
    var environment: [UnsafeMutablePointer<CChar>?] = unsafe [nil]
    var process: pid_t = 0
    let result = unsafe posix_spawn(&process, program, nil, nil, &words, &environment)
    guard result == 0 else { throw Errno(rawValue: result) }
    return process
  }

  /// Has a command carried out; `done` when the process is gone.
  @discardableResult
  func ask(_ command: Command, descriptor: ((CInt) -> Void)? = nil) throws(Refused) -> Reply {
    let reply = line.withLock { line -> Reply in
      guard line.isOpen else { return .done }
      let reply: Reply?
      do {
        try line.socket.send([UInt8](JSONEncoder().encode(command)))
        reply = try receive(
          Reply.self, from: line.socket, line.poller, descriptors: descriptor)
      } catch { reply = nil }
      line.isOpen = reply != nil
      return reply ?? .done
    }
    if case .refused(let refusal) = reply { throw Refused(refusal: refusal) }
    return reply
  }

  /// Ends the process as it stands.
  func kill() {
    guard !isEnded.exchange(true, ordering: .relaxed) else { return }
    Foundation.kill(process, SIGKILL)
    waitpid(process, nil, 0)
  }
}

/// The other process's adapter refused a call.
struct Refused: Error {
  let refusal: Refusal
}
