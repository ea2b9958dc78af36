public import FabricPlatform
public import FabricStorage
import FabricWire

/// A controller: what one host's admin queue and I/O queues share. Without I/O: commands, data and time
/// are arguments, and what is to happen is returned.
///
/// Threads: the subsystem's.
public final class Controller {
  public enum Kind: Sendable {
    /// With namespaces.
    case io
    /// Tells where subsystems are.
    case discovery
  }

  /// The subsystem's name for it.
  public let number: UInt16
  public let host: HostIdentity
  public let kind: Kind
  let transport: QueueTransport
  /// The host's address.
  let origin: [UInt8]
  unowned let subsystem: NVMSubsystem
  /// The address of this machine that the host came to.
  var reachedAt: DiscoveryEntry.Host?
  /// By queue, 0 the admin queue.
  private var links: [UInt16: any ControllerLink] = [:]
  public private(set) var hasEnded = false

  // Properties. (NVMe over Fabrics 1.1, section 3.5)
  var configuration: UInt32 = 0
  var isReady = false
  var shutdownStatus: UInt32 = 0

  // Features.
  var features = Features()
  /// Zero: the host need not be heard of.
  private(set) var keepAlive: Duration = .zero
  private(set) var lastHeard: MonotonicTime

  // Events.
  /// Requests that wait for an event, oldest first.
  var heldEvents: [UInt16] = []
  /// Kinds of events that nobody has asked for yet; of each kind one is enough.
  var pendingEvents: [Event] = []
  /// Kinds that have been told and whose log has not been read since.
  var maskedEvents: Set<Event> = []
  /// Namespaces that have changed since that log was read.
  var changedNamespaces: Set<UInt32> = []

  /// What the host wrote and has not flushed, by namespace, over all its queues.
  private var accounts: [UInt32: VolumeClient] = [:]

  // Statistics, for the SMART log.
  /// Of connections that are gone.
  private var pastCounters = IOCounters()
  let begin: MonotonicTime

  init(
    number: UInt16, host: HostIdentity, kind: Kind, transport: QueueTransport,
    origin: [UInt8], subsystem: NVMSubsystem, now: MonotonicTime
  ) {
    self.number = number
    self.host = host
    self.kind = kind
    self.transport = transport
    self.origin = origin
    self.subsystem = subsystem
    lastHeard = now
    begin = now
  }

  // MARK: Queues

  /// I/O queues that are connected.
  var queueCount: Int { links.keys.filter { $0 != 0 }.count }

  func isConnected(_ queue: UInt16) -> Bool { links[queue] != nil }

  func connect(_ queue: UInt16, _ link: any ControllerLink) { links[queue] = link }

  /// A queue's connection has gone; with the admin queue's the whole controller goes.
  public func disconnected(_ queue: UInt16, _ link: any ControllerLink) {
    guard let known = links[queue], known === link else { return }
    pastCounters.add(link.counters)
    links[queue] = nil
    if queue == 0 { end() }
  }

  var adminLink: (any ControllerLink)? { links[0] }

  /// What was done over all connections.
  var counters: IOCounters {
    links.values.reduce(into: pastCounters) { $0.add($1.counters) }
  }

  /// Ends the connections of I/O queues.
  func endQueues() {
    for (queue, link) in links where queue != 0 {
      pastCounters.add(link.counters)
      links[queue] = nil
      link.end()
    }
  }

  /// Ends all connections and forgets the controller.
  public func end() {
    guard !hasEnded else { return }
    hasEnded = true
    subsystem.forget(self)
    let links = self.links
    self.links = [:]
    for link in links.values { link.end() }
  }

  // MARK: Keep alive

  /// When the host will have been silent for too long; nil: it may be. That is a unit later than it asked
  /// for: a command that came in time may wait in its socket while the thread is busy.
  var deadline: MonotonicTime? {
    keepAlive == .zero ? nil : lastHeard + keepAlive + .milliseconds(Int64(Self.keepAliveUnit))
  }

  /// - Parameter milliseconds: as the host asks; 0: never.
  func setKeepAlive(milliseconds: UInt32, at now: MonotonicTime) {
    // In whole units of what Identify tells, rounded up.
    let unit = Self.keepAliveUnit
    let whole = (milliseconds.addingReportingOverflow(unit - 1).partialValue) / unit * unit
    keepAlive = .milliseconds(Int64(milliseconds == 0 ? 0 : max(whole, milliseconds)))
    lastHeard = now
  }

  var keepAliveMilliseconds: UInt32 { UInt32(clamping: keepAlive.nanoseconds / 1_000_000) }

  /// Milliseconds.
  static let keepAliveUnit: UInt32 = 100

  /// Something came of the host's admin queue.
  public func heard(at now: MonotonicTime) { lastHeard = now }

  func expire() {
    subsystem.options.log(
      "\(host.name): nothing was heard of it for \(keepAliveMilliseconds) ms; its controller "
        + "\(number) is closed")
    end()
  }

  // MARK: Namespaces

  /// A namespace that the host sees; nil: there is none of that number for it.
  public func namespace(_ number: UInt32) -> Namespace? {
    let index = Int(number) - 1
    guard index >= 0, index < subsystem.namespaces.count, kind == .io,
      let namespace = subsystem.namespaces[index],
      subsystem.access(of: host.name, to: namespace.volume) != nil
    else { return nil }
    return namespace
  }

  /// The most that the host may do with a namespace that it sees.
  public func access(to volume: Volume) -> VolumeAccess? {
    subsystem.access(of: host.name, to: volume)
  }

  /// Where it is kept what the host wrote to a namespace and has not flushed.
  public func account(of namespace: Namespace) -> VolumeClient {
    if let known = accounts[namespace.number], known.volume === namespace.volume { return known }
    let account = VolumeClient(of: namespace.volume)
    accounts[namespace.number] = account
    return account
  }

  /// What the host sees, by number.
  public var namespaces: [Namespace] { kind == .io ? subsystem.namespaces(for: host.name) : [] }
}

/// What was done for a host, for its controller's SMART log.
public struct IOCounters: Sendable {
  public var readCommands: UInt64 = 0
  public var writeCommands: UInt64 = 0
  /// Of 512 bytes.
  public var readUnits: UInt64 = 0
  public var writeUnits: UInt64 = 0
  public var mediaErrors: UInt64 = 0

  public init() {}

  mutating func add(_ other: IOCounters) {
    readCommands &+= other.readCommands
    writeCommands &+= other.writeCommands
    readUnits &+= other.readUnits
    writeUnits &+= other.writeUnits
    mediaErrors &+= other.mediaErrors
  }

  /// - Parameter units: of 512 bytes.
  @inline(__always)
  public mutating func countRead(units: UInt64) {
    readCommands &+= 1
    readUnits &+= units
  }

  @inline(__always)
  public mutating func countWrite(units: UInt64) {
    writeCommands &+= 1
    writeUnits &+= units
  }
}
