import FabricAdapterParts
import FabricPlatform
import Synchronization

/// A connection that this side has ended: what still comes is read and dropped until the peer ends
/// its direction, too, or takes too long.
final class LingeringSocket: EventSource {
  private static let patience: Duration = .seconds(2)

  private let socket: StreamSocket
  /// Until then the connection counts for the peer's address.
  private let ticket: AddressTicket?
  /// Has this source as long as it lasts; who drops it drops the sockets.
  private unowned let events: EventChannel
  private let deadline: MonotonicTime
  private let tag = Mutex<UInt64>(0)

  private init(_ socket: StreamSocket, _ ticket: AddressTicket?, _ events: EventChannel) {
    self.socket = socket
    self.ticket = ticket
    self.events = events
    deadline = .now + Self.patience
  }

  static func wait(on socket: StreamSocket, ticket: AddressTicket?, events: EventChannel) {
    let source = LingeringSocket(socket, ticket, events)
    source.tag.withLock { tag in
      tag = (try? events.add(source, descriptor: socket.number)) ?? 0
    }
  }

  func ready() {
    unsafe withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 64) { room in
      for _ in 0..<16 {
        switch unsafe socket.receive(room) {
        case .bytes: continue
        case .wouldBlock: return
        case .end, .failed: return leave()
        }
      }
    }
  }

  func expire(at now: MonotonicTime) {
    guard deadline <= now else { return }
    socket.reset()
    leave()
  }

  private func leave() {
    events.remove(tag: tag.withLock { $0 }, descriptor: socket.number)
  }
}
