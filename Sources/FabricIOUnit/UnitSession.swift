import FabricIOProtocol
import FabricStorage

/// A host's stay at a volume, over all its connections: what is fenced together, and one account
/// of what it wrote and has not flushed. Confined to its shard's thread. (IO-14)
final class UnitSession {
  struct Key: Hashable {
    let volume: VolumeIdentifier
    /// So that no host can fence another's connections.
    let host: String
    let session: HostOpening.SessionIdentifier
  }

  let key: Key
  /// Outlives connections: a flush that failed meanwhile is told to the next.
  let client: VolumeClient
  /// The greatest epoch that was accepted; nil before the first.
  var newestEpoch: UInt32?
  var connections: [UnitConnection] = []

  init(key: Key, volume: Volume) {
    self.key = key
    client = VolumeClient(of: volume)
  }

  /// Whether everything that came over connections older than `connection` has ended.
  func isSettled(before connection: UnitConnection) -> Bool {
    connections.allSatisfy { $0.opening.epoch >= connection.opening.epoch }
  }
}

/// The sessions of a shard. Those without a connection are kept for a while, bounded in number:
/// their hosts may come back.
struct SessionTable {
  /// Sessions without connections that are remembered. One is some hundred bytes.
  static let idleLimit = 256

  private var sessions: [UnitSession.Key: UnitSession] = [:]
  /// Oldest first; may name sessions that have come back.
  private var idle: [UnitSession.Key] = []

  var count: Int { sessions.count }

  mutating func session(_ key: UnitSession.Key, volume: Volume) -> UnitSession {
    idle.removeAll { $0 == key }
    if let session = sessions[key] { return session }
    let session = UnitSession(key: key, volume: volume)
    sessions[key] = session
    return session
  }

  /// Remembers a session whose last connection has gone.
  mutating func didBecomeIdle(_ session: UnitSession) {
    idle.append(session.key)
    if idle.count > Self.idleLimit { sessions[idle.removeFirst()] = nil }
  }
}
