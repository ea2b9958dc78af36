import FabricPlatform
import Synchronization

/// The kernel's watch over the sockets of one completion queue. It can be off while the completion
/// queue reads each of them at every poll: noting what has come costs the sender 4 % of a message's
/// way.
///
/// Threads: any.
final class SocketWatch: Sendable {
  private struct State {
    /// By the numbers of their queue pairs.
    var sockets: [UInt32: CInt] = [:]
    var isOn = true
  }

  let poller: Poller
  private let state = Mutex(State())

  init() throws(Errno) { poller = try Poller() }

  /// - Parameter number: comes back with the socket's events.
  func add(_ socket: CInt, number: UInt32) throws(Errno) {
    try state.withLock { state throws(Errno) in
      if state.isOn { try poller.addEdges(socket, tag: UInt64(number)) }
      state.sockets[number] = socket
    }
  }

  /// No effect when it is not watched.
  func remove(number: UInt32) {
    state.withLock { state in
      guard let socket = state.sockets.removeValue(forKey: number), state.isOn else { return }
      poller.remove(socket)
    }
  }

  /// What a socket has by now is told as if it had just come.
  ///
  /// - Returns: those that the kernel did not take, by number and why; they are not watched.
  func turnOn() -> [(number: UInt32, error: Errno)] {
    state.withLock { state in
      guard !state.isOn else { return [] }
      state.isOn = true
      var refused: [(number: UInt32, error: Errno)] = []
      for (number, socket) in state.sockets {
        do throws(Errno) {
          try poller.addEdges(socket, tag: UInt64(number))
        } catch {
          refused.append((number, error))
        }
      }
      for (number, _) in refused { state.sockets[number] = nil }
      return refused
    }
  }

  func turnOff() {
    state.withLock { state in
      guard state.isOn else { return }
      state.isOn = false
      for socket in state.sockets.values { poller.remove(socket) }
    }
  }
}
