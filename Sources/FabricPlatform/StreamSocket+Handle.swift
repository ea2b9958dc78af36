public import CFabricLinux

extension StreamSocket {
  /// What became of sending or receiving.
  public enum Transfer: Equatable, Sendable {
    case bytes(Int)
    /// Nothing now: no room, or nothing has come.
    case wouldBlock
    /// The peer has ended its direction in order.
    case end
    case failed(Errno)
  }

  /// A socket that somebody else keeps open.
  public struct Handle: Sendable {
    let number: CInt

    /// Sends as much as there is room for.
    @unsafe
    public func send(_ pieces: UnsafePointer<iovec>, count: Int) -> Transfer {
      while true {
        let result = unsafe fabric_tcp_send(number, pieces, count)
        if result >= 0 { return .bytes(result) }
        let error = Errno.current
        if error == .interrupted { continue }
        return error == .wouldBlock ? .wouldBlock : .failed(error)
      }
    }

    /// Receives as much as has come.
    @unsafe
    public func receive(_ pieces: UnsafeMutablePointer<iovec>, count: Int) -> Transfer {
      while true {
        let result = unsafe fabric_tcp_receive(number, pieces, count)
        if result > 0 { return .bytes(result) }
        if result == 0 { return .end }
        let error = Errno.current
        if error == .interrupted { continue }
        return error == .wouldBlock ? .wouldBlock : .failed(error)
      }
    }

    /// Whether the peer has ended its direction, or the connection has failed; what came before may
    /// still be there to be received.
    public var peerHasEnded: Bool { fabric_peer_has_ended(number) }

    /// As `StreamSocket.connectError`.
    public var connectError: Errno? {
      let error = fabric_socket_error(number)
      return error == 0 ? nil : Errno(rawValue: error)
    }
  }
}
