import FabricPlatform
import Synchronization

/// Peers of one listener whose request is awaited. Of an address, and of all, so many at most: the
/// oldest makes room, so that nobody shuts others out by saying nothing. (IW-37)
final class Door: Sendable {
  private struct State {
    /// Oldest first.
    var waiting: [IncomingConnection] = []
    var counts: [[UInt8]: Int] = [:]
  }

  private let limit: Int
  private let limitPerAddress: Int
  private let state = Mutex(State())

  init(_ options: TCPOptions) {
    limit = options.startUps
    limitPerAddress = options.startUpsPerAddress
  }

  /// Lets a peer wait; returns the one to be turned away for it.
  func enter(_ peer: IncomingConnection) -> IncomingConnection? {
    state.withLock { state in
      let host = peer.peer.host
      state.waiting.append(peer)
      state.counts[host, default: 0] += 1
      if state.counts[host, default: 0] > limitPerAddress {
        return Self.takeOldest(of: host, from: &state)
      }
      return state.waiting.count > limit ? Self.take(0, from: &state) : nil
    }
  }

  /// Takes the oldest one of an address, to be turned away; nil when none of it waits.
  func takeOldest(of address: InternetAddress) -> IncomingConnection? {
    state.withLock { Self.takeOldest(of: address.host, from: &$0) }
  }

  func leave(_ peer: IncomingConnection) {
    state.withLock { state in
      guard let index = state.waiting.firstIndex(where: { $0 === peer }) else { return }
      _ = Self.take(index, from: &state)
    }
  }

  private static func takeOldest(
    of host: [UInt8], from state: inout State
  ) -> IncomingConnection? {
    guard state.counts[host] != nil,
      let index = state.waiting.firstIndex(where: { $0.peer.host == host })
    else { return nil }
    return take(index, from: &state)
  }

  private static func take(_ index: Int, from state: inout State) -> IncomingConnection {
    let peer = state.waiting.remove(at: index)
    let host = peer.peer.host
    let left = state.counts[host, default: 1] - 1
    state.counts[host] = left == 0 ? nil : left
    return peer
  }
}
