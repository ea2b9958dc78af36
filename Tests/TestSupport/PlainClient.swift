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
      let count = try sendOnce(bytes, from: sent)
      if count == 0 { wait(Int16(POLLOUT)) }
      sent += count
    }
  }

  /// - Returns: how much there was room for.
  private func sendOnce(_ bytes: [UInt8], from start: Int) throws -> Int {
    let result = unsafe bytes.withUnsafeBytes { raw in
      unsafe socket.send(UnsafeRawBufferPointer(rebasing: raw[start...]))
    }
    switch result {
    case .bytes(let count): return count
    case .wouldBlock: return 0
    case .end, .failed: throw Ended()
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
    while sent < bytes.count, let count = try? sendOnce(bytes, from: sent), count > 0 {
      sent += count
    }
    return sent
  }

  /// Exactly `count` bytes.
  public func receive(_ count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var received = 0
    while received < count {
      let result = unsafe bytes.withUnsafeMutableBytes { raw in
        unsafe socket.receive(UnsafeMutableRawBufferPointer(rebasing: raw[received...]))
      }
      switch result {
      case .bytes(let part): received += part
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
