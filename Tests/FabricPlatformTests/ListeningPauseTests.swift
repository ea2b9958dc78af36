import Testing

@testable import FabricPlatform

@Suite("Platform: a listener without descriptors")
struct ListeningPauseTests {
  private let start = MonotonicTime(nanoseconds: 1_000_000_000)

  @Test("a pause ends once, and is told once in a while with what to do")
  func pauses() throws {
    var pause = ListeningPause()
    /// What is told of a pause that begins then, and whether it is over 99, 100 and 101 ms later.
    func begin(after wait: Duration) -> (String?, [Bool]) {
      let now = start + wait
      let words = pause.begin(at: now, because: .tooManyOpenFiles)
      return (words, [99, 100, 101].map { pause.isOver(at: now + .milliseconds($0)) })
    }
    let (first, ends) = begin(after: .zero)
    let words = try #require(first)
    #expect(words.contains("expected") && words.contains("got") && words.contains("ulimit -n"))
    #expect(ends == [false, true, false])
    for wait in [Duration.milliseconds(200), .seconds(9)] {
      let (none, ends) = begin(after: wait)
      #expect(none == nil && ends == [false, true, false])
    }
    let (again, _) = begin(after: .seconds(10))
    #expect(again == words)
  }

  @Test(
    "what to do depends on what there is none of",
    arguments: [
      (Errno.tooManyOpenFiles, "ulimit -n"), (.tooManyOpenFilesInSystem, "fs.file-max"),
      (.noMemory, "memory"),
    ])
  func remedies(_ error: Errno, _ remedy: String) {
    var pause = ListeningPause()
    let words = pause.begin(at: start, because: error)
    #expect(words?.contains(remedy) == true)
  }
}
