import Foundation
import Testing

/// Programs that are ended from outside leave nothing behind.
@Suite("Tools, ended by signals", .timeLimit(.minutes(2)))
struct EndingTests {
  @Test("The sample that listens ends in order", arguments: [SIGINT, SIGTERM])
  func sample(_ number: Int32) throws {
    let place = try Place()
    let pong = try Tool("PingPong", ["pong", place.file("s")])
    // It does not say when it listens.
    let end = Date(timeIntervalSinceNow: 10)
    var answer: [String] = []
    while answer != ["got: pong"], Date.now < end {
      let ping = try Tool("PingPong", ["ping", place.file("s")])
      ping.waitForEnd()
      answer = ping.output
    }
    #expect(answer == ["got: pong"])
    pong.signal(number)
    #expect(pong.waitForEnd() == 0)
    #expect(!FileManager.default.fileExists(atPath: place.file("s")))
  }
}
