public import FabricVerbs

/// A fabric inside one process whose time stands still until it is told to pass: everything that
/// happens on it follows from the seed and from what its users do.
///
/// Queue pairs are reordered among each other by random delays; on each of them order holds.
///
/// Threads: a network, its adapters and all their parts belong to one thread at a time.
public final class SimulatedNetwork: @unchecked Sendable {
  public struct Options: Sendable {
    /// A part of a journey takes up to this long.
    public var maximumDelay: Duration = .microseconds(20)
    /// Until a peer is seen to be dead.
    public var deathDetection: Duration = .milliseconds(500)
    /// How much later than the other side the one that accepts is told that it is connected: messages may come before.
    public var acceptorDelay: Duration = .zero
    /// How many trains of requests in a million break their connection.
    public var lossesPerMillion = 0

    public init() {}
  }

  public var options: Options
  /// Virtual time since the beginning.
  public private(set) var now: Duration = .zero
  /// How often a message found no receive posted, and waited.
  public internal(set) var receiverNotReadyCount = 0

  /// Changes a request on its way, or has it get lost; nil: nothing is changed. It makes peers that break their
  /// protocol, for tests that have to notice.
  public var alteration: ((inout SimulatedTraffic) -> SimulatedFate)?

  /// Something that will happen.
  private struct Event {
    let time: Duration
    /// Of two at one time the first scheduled happens first.
    let order: UInt64
    let body: () -> Void

    func isBefore(_ other: Event) -> Bool { (time, order) < (other.time, other.order) }
  }

  /// A binary heap.
  private var events: [Event] = []
  private var eventCount: UInt64 = 0
  private var randomState: UInt64
  private var nextNumber: UInt32 = 0
  /// Queue pairs whose next message finds no place at the peer.
  private var stalled: [SimulatedQueuePair] = []
  var listeners: [String: SimulatedListener] = [:]

  public init(seed: UInt64, options: Options = .init()) {
    self.options = options
    randomState = seed
  }

  public func makeAdapter(
    name: String, options: SimulatedAdapter.Options = .init()
  ) -> SimulatedAdapter {
    SimulatedAdapter(network: self, name: name, options: options)
  }

  // MARK: Time

  /// Makes the next scheduled event happen, and its time the present.
  ///
  /// - Returns: false when nothing is scheduled.
  @discardableResult
  public func step() -> Bool {
    guard let event = takeFirst() else { return false }
    now = event.time
    event.body()
    return true
  }

  /// Lets time pass, with all that happens in it.
  public func advance(by duration: Duration) {
    let end = now + duration
    while let first = events.first, first.time <= end { step() }
    now = end
  }

  /// The end of a process: its queue pairs fall silent and its listeners are gone; peers notice
  /// within `options.deathDetection`.
  public func kill(_ adapter: SimulatedAdapter) { adapter.die() }

  /// Breaks the connection of a queue pair, as a failing link does.
  public func breakConnection(of queuePair: any QueuePair) {
    guard let queuePair = queuePair as? SimulatedQueuePair else { return }
    queuePair.breakConnection()
  }

  func schedule(after delay: Duration, _ body: @escaping () -> Void) {
    schedule(at: now + delay, body)
  }

  func schedule(at time: Duration, _ body: @escaping () -> Void) {
    eventCount += 1
    events.append(Event(time: time, order: eventCount, body: body))
    var index = events.count - 1
    while index > 0, events[index].isBefore(events[(index - 1) / 2]) {
      events.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  private func takeFirst() -> Event? {
    guard let first = events.first else { return nil }
    let last = events.removeLast()
    if events.isEmpty { return first }
    events[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2]
      where child < events.count && events[child].isBefore(events[least]) {
        least = child
      }
      if least == index { return first }
      events.swapAt(index, least)
      index = least
    }
  }

  // MARK: Chance

  /// A number below `bound` that follows from the seed.
  func random(below bound: UInt64) -> UInt64 {
    // SplitMix64.
    randomState &+= 0x9E37_79B9_7F4A_7C15
    var value = randomState
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return (value ^ (value >> 31)) % bound
  }

  func randomDelay() -> Duration {
    let (seconds, attoseconds) = options.maximumDelay.components
    let bound = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    return .nanoseconds(Int64(1 + random(below: max(1, bound))))
  }

  /// Whether a train of requests breaks its connection.
  func losesConnection() -> Bool {
    options.lossesPerMillion > 0 && random(below: 1_000_000) < UInt64(options.lossesPerMillion)
  }

  func makeNumber() -> UInt32 {
    nextNumber += 1
    return nextNumber
  }

  // MARK: Receivers that were not ready

  func stall(_ queuePair: SimulatedQueuePair) {
    receiverNotReadyCount += 1
    stalled.append(queuePair)
  }

  /// Something was posted or polled: who waited for that tries again.
  func resumeStalled() {
    if stalled.isEmpty { return }
    let waiting = stalled
    stalled = []
    for queuePair in waiting { queuePair.scheduleTransfer() }
  }
}
