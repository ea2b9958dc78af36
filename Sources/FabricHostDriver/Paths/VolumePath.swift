import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricVerbs

/// One way to the volume: an address, the connection to it, and how it has done so far. Each path is on
/// its own: what happens to one disturbs no other. Confined to the queue's thread.
final class VolumePath {
  // What each request touches lies together.
  /// `channel`, for each request.
  private(set) var channelReference: UncountedReference<Channel>?
  /// Requests under way.
  var sentCount = 0
  /// The unit's limit to `sentCount`.
  var sentLimit = 0
  /// Of the connection that stands; names it in slots.
  var serial: UInt32 = 0
  /// Its place in the queue.
  let index: Int
  /// Which of the queue's endpoints carries it.
  let endpointIndex: Int
  /// Whether the unit gets a key for one read at a time, and for no more than that.
  let lendsKeys: Bool
  /// The unit's `ready` has come, and the path is in use.
  var isReady = false
  /// A request has ended on the connection, or none was waiting when it opened.
  var isProven = false
  var accessState = PathState.optimised
  /// Nanoseconds that requests of late have taken, on average; 0: not known.
  private(set) var latency: UInt64 = 0
  /// The same, divided by how many were under way: what one more adds.
  private var serviceTime: UInt64 = 0
  /// What the quickest of late have taken: what one alone takes.
  private var quickest: UInt64 = 0
  private var lastEnd: UInt64 = 0
  /// For the latency-weighted policy.
  var earned = Double.zero
  var counters = PathCounters()

  let address: VolumeAddress
  let endpoint: ChannelEndpoint
  var channel: Channel? {
    didSet { channelReference = channel.map { UncountedReference($0) } }
  }
  var connection: PathConnection?
  /// What the unit said of the volume over the connection.
  var found: RemoteVolumeInfo?
  /// The unit's `ready` has come, but which volume it is will be said by a path that was named before.
  var isHeldBack = false
  /// An attempt to connect has ended, either way.
  var hasTried = false
  var backoff: Backoff
  /// When the next attempt is due; nil: none is planned.
  var reconnectAt: MonotonicTime?
  /// Why it is not connected.
  var lossReason = "no connection was made yet"
  /// Why no further attempt is made, or, before there was any connection at all, why the first one is
  /// not worth a second.
  var hopelessness: RemoteVolumeError?

  init(
    _ address: VolumeAddress, index: Int, endpoint: ChannelEndpoint, endpointIndex: Int,
    backoff: Backoff
  ) {
    self.address = address
    self.index = index
    self.endpoint = endpoint
    self.endpointIndex = endpointIndex
    self.backoff = backoff
    lendsKeys = endpoint.adapter.capabilities.peersAreStrangers
  }

  /// Why it cannot be used.
  var absence: String { isReady ? "the unit calls it \(accessState)" : lossReason }
  /// Whether requests may take it.
  var isUsable: Bool { isReady && accessState != .inaccessible }
  /// Whether a request may take it now.
  var canTake: Bool { isUsable && sentCount < sentLimit }

  /// The connection does what it is for: only now does the next loss begin anew. One that opens and
  /// breaks is a failed attempt.
  func hasProven() {
    isProven = true
    backoff.succeeded()
  }

  // MARK: Measures

  /// A path that nothing was heard of for so long is tried again, whatever it was like.
  private static let measureLifetime: UInt64 = 1_000_000_000

  /// A request that took so many nanoseconds has ended.
  func measured(_ nanoseconds: UInt64, at now: UInt64) {
    let share = nanoseconds / UInt64(max(1, sentCount))
    latency = latency == 0 ? nanoseconds : (latency &* 7 &+ nanoseconds) / 8
    serviceTime = serviceTime == 0 ? share : (serviceTime &* 7 &+ share) / 8
    let isQuickest = quickest == 0 || nanoseconds < quickest
    quickest = isQuickest ? nanoseconds : quickest &+ (nanoseconds &- quickest) / 64
    lastEnd = now
  }

  /// Requests in a nanosecond, one after the other.
  func quickness(unlessKnown unknown: UInt64) -> Double {
    1 / Double(latency == 0 ? unknown : latency)
  }

  /// Nanoseconds until a request that is sent now may have ended. A path that is not known, or of
  /// which nothing was heard for a while, is tried with one request.
  func expectedServiceTime(at now: UInt64) -> UInt64 {
    if sentCount == 0, quickest == 0 || now > lastEnd &+ Self.measureLifetime { return 0 }
    return quickest == 0 ? .max : quickest &+ serviceTime &* UInt64(sentCount)
  }
}

/// What a path has carried.
public struct PathCounters: Sendable, Equatable {
  /// Requests handed to it, those that were sent again included.
  public var requestCount: UInt64 = 0
  public var readByteCount: UInt64 = 0
  public var writtenByteCount: UInt64 = 0
  /// Requests that the unit ended with something else than success.
  public var errorCount: UInt64 = 0
  /// Connections that were lost.
  public var lossCount: UInt64 = 0
  /// Requests that were on it when it was lost and went on another connection.
  public var resentCount: UInt64 = 0
  /// Requests that were on it when it was lost and of which the unit knew the end.
  public var recoveredCount: UInt64 = 0

  public init() {}
}
