import Foundation

/// One workload, done by us and by somebody else, in turns.
struct Contest {
  /// What a figure means, and which of two is ahead.
  enum Unit: String {
    case microseconds, megabytesPerSecond, perSecond

    var isBetterWhenLower: Bool { self == .microseconds }
  }

  let workload: String
  let unit: Unit
  let peer: String
  let ours: () throws -> Double
  let theirs: () throws -> Double

  /// Medians of runs in turns; nil for a side that could not run, with its reason.
  struct Result {
    let contest: Contest
    let ours: Figures
    let theirs: Figures

    /// Above 1: ours is ahead, by so much.
    var ratio: Double {
      contest.unit.isBetterWhenLower ? theirs.median / ours.median : ours.median / theirs.median
    }
  }

  /// Figures of several runs.
  struct Figures {
    private let sorted: [Double]
    init(_ values: [Double]) { sorted = values.sorted() }

    var median: Double { sorted.isEmpty ? .nan : sorted[sorted.count / 2] }
    /// The same without the outer fifths: what a disturbed machine does to a turn or two is left out.
    var innerSpread: Double {
      guard !sorted.isEmpty else { return .nan }
      let outer = sorted.count / 5
      return (sorted[sorted.count - 1 - outer] - sorted[outer]) / median
    }
    /// From the least to the greatest, as a part of the median.
    var spread: Double {
      guard let first = sorted.first, let last = sorted.last else { return .nan }
      return (last - first) / median
    }
  }

  func run(times: Int) throws -> Result {
    var ours: [Double] = []
    var theirs: [Double] = []
    for _ in 0..<times {
      ours.append(try self.ours())
      theirs.append(try self.theirs())
    }
    return Result(contest: self, ours: Figures(ours), theirs: Figures(theirs))
  }
}
