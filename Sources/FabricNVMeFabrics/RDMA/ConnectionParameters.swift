import FabricWire

/// What a host says in the private data of its connection request: which queue it asks for, and how long
/// it is. (NVMe over Fabrics 1.1, section 7.3)
struct ConnectionParameters: Equatable {
  static let byteCount = 32

  var format: UInt16 = 0
  var queue: UInt16
  /// Receives that the host has posted for completions.
  var hostReceiveCount: UInt16
  /// Commands that the host sends at once, less one.
  var hostSendCount: UInt16
  /// Of an I/O queue.
  var controller: UInt16 = 0

  init(queue: UInt16, hostReceiveCount: UInt16, hostSendCount: UInt16) {
    self.queue = queue
    self.hostReceiveCount = hostReceiveCount
    self.hostSendCount = hostSendCount
  }

  /// - Parameters:
  ///   - bytes: what came, perhaps with something that it was filled up with.
  ///   - queueCount: I/O queues that there may be, numbered from 1.
  ///   - depth: entries that a queue may have.
  init(
    decoding bytes: [UInt8], queueCount: Int, depth: Int
  ) throws(ConnectionRefusal) {
    guard bytes.count >= Self.byteCount else { throw .invalidLength }
    func number(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8 }
    format = number(0)
    queue = number(2)
    hostReceiveCount = number(4)
    hostSendCount = number(6)
    controller = number(8)
    guard format == 0 else { throw .invalidFormat }
    guard Int(queue) <= queueCount else { throw .invalidQueue }
    guard Int(hostSendCount) < depth else { throw .invalidSendCount }
    guard hostReceiveCount > 0 else { throw .invalidReceiveCount }
  }

  var encoded: [UInt8] {
    let fields = [format, queue, hostReceiveCount, hostSendCount, controller]
    return fields.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
      + [UInt8](repeating: 0, count: Self.byteCount - 2 * fields.count)
  }

  /// Commands that may be under way.
  var entryCount: Int { Int(hostSendCount) + 1 }

  /// The answer: receives that are posted for commands.
  static func answer(receiveCount: Int) -> [UInt8] {
    let count = UInt16(clamping: receiveCount)
    return [0, 0, UInt8(truncatingIfNeeded: count), UInt8(count >> 8)]
      + [UInt8](repeating: 0, count: byteCount - 4)
  }
}

/// Why a connection request was refused, as the host is told. (NVMe over Fabrics 1.1, section 7.3)
enum ConnectionRefusal: UInt16, Error, CustomStringConvertible {
  case invalidLength = 1
  case invalidFormat = 2
  case invalidQueue = 3
  case invalidSendCount = 4
  case invalidReceiveCount = 5
  case noResources = 6

  var encoded: [UInt8] { [0, 0, UInt8(rawValue), 0] }

  var description: String {
    switch self {
    case .invalidLength: "its private data is not that of an NVMe host"
    case .invalidFormat: "its private data has a format that is not known here"
    case .invalidQueue: "it asks for a queue that there is not"
    case .invalidSendCount: "it asks for a longer queue than there may be"
    case .invalidReceiveCount: "it has no receives for completions"
    case .noResources: "there are no queues or no memory left for it"
    }
  }
}
