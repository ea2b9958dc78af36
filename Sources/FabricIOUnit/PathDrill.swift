import FabricCompletion
import FabricPlatform

/// Cuts the paths through a place at random, and heals them again: for drills. Confined to its shard's
/// thread. One seed has the same cuts, whatever else happens.
final class PathDrill: TimedSource {
  private unowned let shard: UnitShard
  private let place: UnitPlace
  /// From one cut to the next, on average.
  private let mean: Duration
  private var random: DrillGenerator
  private var next: MonotonicTime

  init(_ place: UnitPlace, _ cuts: ListeningPlace.Cuts, shard: UnitShard) {
    self.place = place
    mean = cuts.mean
    random = DrillGenerator(state: cuts.seed)
    self.shard = shard
    next = .now + cuts.mean
    shard.log("\(place.place.address): paths are cut for a drill, with seed \(cuts.seed)")
  }

  var nextDeadline: MonotonicTime? { next }

  func progress(at now: MonotonicTime) -> Int {
    place.isCut.toggle()
    // Healed it stays for as long as it was cut, on average.
    next = now + mean * Double.random(in: 0.25...0.75, using: &random)
    if place.isCut { shard.cut(place) }
    return 1
  }
}

/// SplitMix64.
private struct DrillGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
