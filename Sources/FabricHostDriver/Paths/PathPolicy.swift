import FabricIOProtocol
import FabricPlatform

/// Which of several paths a request takes. Paths that are not usable now are left out, and so are, with
/// every policy but `failover`, those that have as many requests as the unit allows.
public enum PathPolicy: String, Sendable, CaseIterable {
  /// Each in its turn, which lasts for `RemoteVolumeQueue.Options.turnLength`.
  case roundRobin = "round-robin"
  /// The one with the fewest requests under way.
  case queueDepth = "queue-depth"
  /// The one that is expected to be done first, by the time that its requests of late have taken and
  /// the number under way.
  case serviceTime = "service-time"
  /// Each in proportion to how quick its requests of late were.
  case latencyWeighted = "latency-weighted"
  /// As `roundRobin` among those that the unit calls optimised; where there is none, among the others.
  case optimisedFirst = "optimised-first"
  /// The first in the order given; the next one only while that one cannot be used.
  case failover = "failover"
}

/// What a policy remembers between requests. Confined to the queue's thread.
struct PathChooser {
  var policy: PathPolicy
  /// The path that had the last request.
  private var last = 0
  /// What that path may still have before its turn is over.
  private var requestsLeft = 0
  private var bytesLeft = 0
  /// Requests of at most 4 KiB.
  private let turnLength: Int

  init(_ policy: PathPolicy, turnLength: Int) {
    self.policy = policy
    self.turnLength = turnLength
  }

  /// The number of the path for the next request; nil: none can take it.
  ///
  /// - Parameters:
  ///   - byteCount: of the request's data.
  ///   - now: nanoseconds on the monotonic clock, coarse.
  mutating func choose(
    _ paths: borrowing PathTable, byteCount: UInt32, at now: UInt64
  ) -> Int? {
    let found =
      switch policy {
      case .roundRobin: inTurn(paths) { _ in true }
      case .queueDepth: least(paths) { UInt64($0.sentCount) }
      case .serviceTime: least(paths) { $0.expectedServiceTime(at: now) }
      case .latencyWeighted: weighted(paths)
      case .optimisedFirst:
        inTurn(paths) { $0.accessState == .optimised } ?? inTurn(paths) { _ in true }
      case .failover: paths.first(where: { $0.isUsable }).flatMap { paths[$0].canTake ? $0 : nil }
      }
    guard let found else { return nil }
    if found != last || requestsLeft <= 0 || bytesLeft <= 0 {
      requestsLeft = turnLength
      bytesLeft = turnLength &* 4096
    }
    last = found
    requestsLeft &-= 1
    bytesLeft &-= Int(byteCount)
    return found
  }

  private func inTurn(
    _ paths: borrowing PathTable, _ isMeant: (VolumePath) -> Bool
  ) -> Int? {
    if requestsLeft > 0, bytesLeft > 0, paths.with(last, { $0.canTake && isMeant($0) }) {
      return last
    }
    var index = last
    for _ in 0..<paths.count {
      index = index &+ 1 < paths.count ? index &+ 1 : 0
      let isFound = paths.with(index) { $0.canTake && isMeant($0) }
      if isFound { return index }
    }
    return nil
  }

  /// The one with the least cost; of several the next in turn.
  private func least(
    _ paths: borrowing PathTable, _ cost: (VolumePath) -> UInt64
  ) -> Int? {
    var found: Int?
    var foundCost = UInt64.max
    var index = last
    for _ in 0..<paths.count {
      index = index &+ 1 < paths.count ? index &+ 1 : 0
      let cost = paths.with(index) { $0.canTake ? cost($0) : nil }
      guard let cost, found == nil || cost < foundCost else { continue }
      found = index
      foundCost = cost
    }
    return found
  }

  /// Every path earns its part of one by its quickness; who has most goes, and pays one. So each goes in
  /// proportion, and as evenly spread as can be. One that is not known earns like the quickest.
  private func weighted(_ paths: borrowing PathTable) -> Int? {
    var sum = Double.zero
    var quickest = UInt64.max
    for index in 0..<paths.count {
      paths.with(index) { path in
        if path.canTake, path.latency > 0 { quickest = min(quickest, path.latency) }
      }
    }
    let unknown = quickest == .max ? 1 : quickest
    for index in 0..<paths.count {
      sum += paths.with(index) { $0.canTake ? $0.quickness(unlessKnown: unknown) : 0 }
    }
    var found: Int?
    var foundEarned = Double.zero
    for index in 0..<paths.count {
      let earned = paths.with(index) { path -> Double? in
        guard path.canTake else { return nil }
        path.earned += path.quickness(unlessKnown: unknown) / sum
        return path.earned
      }
      guard let earned, found == nil || earned > foundEarned else { continue }
      found = index
      foundEarned = earned
    }
    if let found { paths[found].earned -= 1 }
    return found
  }
}

/// The paths of a queue, in the order given; looked at for each request without counting references.
struct PathTable: ~Copyable {
  let paths: [VolumePath]
  private let references: [UncountedReference<VolumePath>]

  init(_ paths: [VolumePath]) {
    self.paths = paths
    references = paths.map { UncountedReference($0) }
  }

  var count: Int { references.count }
  subscript(index: Int) -> VolumePath { paths[index] }

  @inline(__always)
  func with<Result>(_ index: Int, _ body: (VolumePath) -> Result) -> Result {
    references[index].with(body)
  }

  func first(where isMeant: (VolumePath) -> Bool) -> Int? {
    for index in 0..<count where with(index, isMeant) { return index }
    return nil
  }
}
