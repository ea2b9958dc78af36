import FabricPlatform
import Testing

@testable import FabricCompletion

@Suite("Completion service: what is told of refusals")
struct RefusalTallyTests {
  private func time(_ milliseconds: Int) -> MonotonicTime {
    MonotonicTime(nanoseconds: 1_000_000_000) + .milliseconds(milliseconds)
  }

  @Test("few refusals have a line each")
  func few() {
    var tally = RefusalTally()
    for round in 0..<10 {
      for index in 0..<RefusalTally.lineLimit {
        let lines = tally.note("\(index)", at: time(round * 1000 + index))
        #expect(lines == ["\(index)"])
      }
      #expect(tally.nextDeadline == nil)
    }
  }

  @Test("of a flood the first have a line, the others a number each second, until it has ended")
  func flood() {
    var tally = RefusalTally()
    var lines: [String] = []
    // 1,000 in each of three seconds.
    for number in 0..<3000 {
      lines += tally.note("peer \(number)", at: time(number))
    }
    #expect(
      lines == (0..<RefusalTally.lineLimit).map { "peer \($0)" } + [
        "refused 995 more connections in the last second",
        "refused 1000 more connections in the last second",
      ])
    #expect(tally.nextDeadline == time(3000))
    let (early, due) = (tally.pass(time(2999)), tally.pass(time(3000)))
    #expect(early == nil && due == "refused 1000 more connections in the last second")
    #expect(tally.nextDeadline == nil)
    // As long as a second without any has not passed it goes on.
    let late = tally.note("late", at: time(3999))
    let last = tally.pass(time(4000))
    #expect(late.isEmpty && last == "refused 1 more connection in the last second")
    let new = tally.note("new", at: time(5000))
    #expect(new == ["new"])
  }
}
