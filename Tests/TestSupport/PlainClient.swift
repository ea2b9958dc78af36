public import FabricPlatform
import Glibc

/// A blocking client of a byte stream, as any program has one. One thread sends and one receives.
public final class PlainClient: Sendable {
  private let socket: StreamSocket

  public struct Ended: Error {}

  public init(path: String) throws { socket = try StreamSocket.connect(toPath: path) }

  public init(_ address: InternetAddress) throws {
    socket = try StreamSocket.connect(to: address)
    wait(Int16(POLLOUT))
    if let error = socket.connectError { throw error }
  }

  /// Waits until the socket has what is asked for.
  private func wait(_ events: Int16) {
    var look = pollfd(fd: socket.number, events: events, revents: 0)
    _ = unsafe poll(&look, 1, 20_000)
  }

  public func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      switch socket.send(bytes[sent..<min(bytes.count, sent + (1 << 20))]) {
      case .bytes(let count): sent += count
      case .wouldBlock: wait(Int16(POLLOUT))
      case .end, .failed: throw Ended()
      }
    }
  }

  /// Sends in pieces of all lengths.
  public func sendPieces(_ bytes: [UInt8]) throws {
    var start = 0
    var length = 1
    while start < bytes.count {
      try send(Array(bytes[start..<min(bytes.count, start + length)]))
      start += length
      length = length * 3 % 40_009 + 1
    }
  }

  /// Sends as much as there is room for, and says how much.
  public func sendSome(_ bytes: [UInt8]) -> Int {
    var sent = 0
    while sent < bytes.count {
      guard case .bytes(let count) = socket.send(bytes[sent..<min(bytes.count, sent + (1 << 20))])
      else { return sent }
      sent += count
    }
    return sent
  }

  /// Exactly `count` bytes.
  public func receive(_ count: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
      switch socket.receive(into: &bytes, limit: count - bytes.count) {
      case .bytes: break
      case .wouldBlock: wait(Int16(POLLIN))
      case .end, .failed: throw Ended()
      }
    }
    return bytes
  }

  /// Whether the peer ends the stream before it sends anything more; waits for either.
  public func seesEnd() -> Bool {
    do {
      _ = try receive(1)
      return false
    } catch { return true }
  }

  public func endDirection() { socket.endInOrder() }
}
