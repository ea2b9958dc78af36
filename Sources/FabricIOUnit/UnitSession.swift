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
  /// Connections that have gone, the last ones last, and how their commands ended.
  private var gone: [(name: ConnectionName, outcomes: OutcomeRing)] = []
  /// Of a host with many paths a few at once wait to be asked about; one is some kilobytes.
  private static let goneLimit = 8

  init(key: Key, volume: Volume) {
    self.key = key
    client = VolumeClient(of: volume)
  }

  /// Whether everything that came over connections older than `connection` has ended.
  func isSettled(before connection: UnitConnection) -> Bool {
    connections.allSatisfy { $0.opening.epoch >= connection.opening.epoch }
  }

  /// Why a connection cannot be added; nil: it can. (IO-14)
  func refusal(of opening: HostOpening) -> String? {
    guard let newestEpoch else { return nil }
    if opening.epoch < newestEpoch {
      return "expected an epoch of at least \(newestEpoch) for this session, got "
        + "\(opening.epoch); connect again with a greater one"
    }
    if connections.contains(where: { $0.opening.connection == opening.connection }) {
      return "expected a number that no connection of epoch \(opening.epoch) has, got "
        + "\(opening.number); connect again with another"
    }
    return nil
  }

  /// Takes a connection in, and fences those of older epochs.
  func add(_ connection: UnitConnection) {
    newestEpoch = connection.opening.epoch
    // Who comes with a gone one's name has no question about that one.
    gone.removeAll { $0.name == connection.opening.connection }
    let older = connections.filter { $0.opening.epoch < connection.opening.epoch }
    connections.append(connection)
    for other in older { other.fence() }
  }

  /// A connection has gone, and all that came over it has ended.
  func remove(_ connection: UnitConnection) {
    connections.removeAll { $0 === connection }
    gone.append((connection.opening.connection, connection.outcomes))
    if gone.count > Self.goneLimit { gone.removeFirst() }
  }

  /// What there is to say of a connection that has been fenced; nil while something of it is under way.
  /// (IO-51, IO-52)
  func answer(to request: FenceRequest) -> FenceAnswer? {
    guard connection(request.connection) == nil else { return nil }
    guard let (_, outcomes) = gone.last(where: { $0.name == request.connection }) else {
      return FenceAnswer(
        request.connection, isRemembered: false,
        outcomes: request.tags.map { .init(tag: $0) })
    }
    return FenceAnswer(
      request.connection, isRemembered: true, outcomes: request.tags.map { outcomes[$0] })
  }

  func connection(_ name: ConnectionName) -> UnitConnection? {
    connections.first { $0.opening.connection == name }
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
