public import FabricPlatform

/// Something that only time gives something to do.
///
/// Threads: all calls come from the service's first thread.
public protocol TimedSource: AnyObject {
  /// When `progress` must be called at the latest; nil: never. Asked when the source was added, after
  /// each call, and after `CompletionService.deadlinesHaveChanged`.
  var nextDeadline: MonotonicTime? { get }

  /// The deadline has passed; returns how much there was to do.
  func progress(at now: MonotonicTime) -> Int
}

/// The timed sources of a service. As long as no deadline has passed none of them is looked at, however
/// many there are.
///
/// Threads: as the service's lists: changed under its gate, used inside it.
struct TimedSources {
  private var sources: [any TimedSource] = []
  /// Of each; `.max`: never.
  private var deadlines: [MonotonicTime] = []
  private var earliest = MonotonicTime.never
  /// Some may be earlier than is known.
  private var areStale = false

  mutating func add(_ source: any TimedSource) {
    guard !sources.contains(where: { $0 === source }) else { return }
    sources.append(source)
    deadlines.append(.never)
    areStale = true
  }

  /// Returns it, if it was there.
  mutating func remove(_ source: any TimedSource) -> (any TimedSource)? {
    guard let index = sources.firstIndex(where: { $0 === source }) else { return nil }
    deadlines.remove(at: index)
    return sources.remove(at: index)
  }

  mutating func deadlinesHaveChanged() { areStale = true }

  /// The earliest deadline; nil when there is none.
  mutating func nextDeadline() -> MonotonicTime? {
    if areStale {
      areStale = false
      var index = 0
      while index < sources.count {
        ask(index)
        index &+= 1
      }
      findEarliest()
    }
    return earliest == .never ? nil : earliest
  }

  var count: Int { sources.count }

  /// The source at `index` if its deadline has passed; nil, too, where there is none.
  func due(_ index: Int, at now: MonotonicTime) -> (any TimedSource)? {
    index < sources.count && deadlines[index] <= now ? sources[index] : nil
  }

  /// Asks the source at `index`, if there is one, when it is to be called next.
  mutating func ask(_ index: Int) {
    guard index < sources.count else { return }
    deadlines[index] = sources[index].nextDeadline ?? .never
  }

  mutating func findEarliest() {
    earliest = .never
    var index = 0
    while index < deadlines.count {
      if deadlines[index] < earliest { earliest = deadlines[index] }
      index &+= 1
    }
  }
}

extension MonotonicTime {
  fileprivate static let never = MonotonicTime(nanoseconds: .max)
}

extension CompletionService {
  /// A timed source's deadline is earlier than it was, or there is one now. To be called on the first
  /// thread.
  public func deadlinesHaveChanged() {
    timedSources.deadlinesHaveChanged()
    areTimersDue = true
  }

  /// Calls those whose time has come; reads the clock only when one is awaited.
  func runTimers() -> Int {
    areTimersDue = false
    guard let next = timedSources.nextDeadline() else { return 0 }
    let now = MonotonicTime.now
    guard next <= now else { return 0 }
    var count = 0
    var index = 0
    // They may add and remove others, and themselves.
    while index < timedSources.count {
      if let source = timedSources.due(index, at: now) {
        count &+= source.progress(at: now)
        timedSources.ask(index)
      }
      index &+= 1
    }
    timedSources.findEarliest()
    return count
  }
}
