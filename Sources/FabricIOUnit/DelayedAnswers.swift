import FabricCompletion
import FabricPlatform

/// Answers that wait for their time, of the connections of slow places. Confined to its shard's thread.
final class DelayedAnswers: TimedSource {
  private var waiting: [(due: MonotonicTime, connection: UnitConnection, slot: Int)] = []
  private var start = 0
  private let service: CompletionService
  /// Called when answers have been given.
  var didAnswer: () -> Void = {}

  init(_ service: CompletionService) { self.service = service }

  /// Answers a command when its place's delay is over.
  func add(_ slot: Int, of connection: UnitConnection) {
    let due = MonotonicTime(
      nanoseconds: MonotonicTime.now.nanoseconds &+ connection.place.delay)
    // Places may differ in their delays.
    var index = waiting.count
    while index > start, waiting[index - 1].due > due { index -= 1 }
    waiting.insert((due, connection, slot), at: index)
    service.deadlinesHaveChanged()
  }

  var nextDeadline: MonotonicTime? { start < waiting.count ? waiting[start].due : nil }

  func progress(at now: MonotonicTime) -> Int {
    var count = 0
    while start < waiting.count, waiting[start].due <= now {
      let (_, connection, slot) = waiting[start]
      start += 1
      count += 1
      connection.answer(slot)
    }
    if start * 2 >= waiting.count {
      waiting.removeFirst(start)
      start = 0
    }
    if count > 0 { didAnswer() }
    return count
  }
}
