import Foundation
import TestSupport
import Testing

/// A unit that is killed with a write under way at a medium that takes its time: a loop device of ours whose
/// own unit answers writes after three seconds.
@Suite(
  "iounit: who comes after a killed one", .serialized, .untilStuck,
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)))
struct SuccessorTests {
  @Test("IO-51: it cannot have the volume before the dead one's write has ended")
  func waitsForTheDeadOnesWrite() throws {
    let place = try LoopPlace("slow=memory,size=16MiB,fault=delay=3s:write")
    let device = try place.attach("slow")
    func serve() throws -> Tool {
      try Tool(
        "iounit", ["serve", "--volume", "v=\(device)", "--listen", "shm:\(place.file("v.sock"))"])
    }
    let first = try serve()
    try #require(first.waits(for: "ready: "), "\(first.errors)")
    try place.shell("head -c 4096 /dev/urandom >block")
    let url = "fabric+shm://\(place.file("v.sock"))/v"
    let start = Date.now
    let writer = try Tool(
      "iohost", ["write", url, "--block", "5", "--input", place.file("block")])
    #expect(try place.waits { (try place.status()["inFlight"] as? Int ?? 0) > 0 })
    first.signal(SIGKILL)
    first.waitForEnd()
    var refusals = 0
    var successor: Tool?
    while successor == nil, Date.now.timeIntervalSince(start) < 60 {
      let next = try serve()
      if next.waits(for: "ready: ") {
        successor = next
      } else {
        #expect(next.errors.joined().contains("expected \(device) to be free"), "\(next.errors)")
        refusals += 1
      }
    }
    #expect(refusals > 0, "the write was over before anybody came")
    #expect(Date.now.timeIntervalSince(start) >= 3)
    #expect(try place.status()["inFlight"] as? Int == 0)
    // The host goes on by the successor, and what it wrote is there.
    #expect(writer.waitForEnd(limit: 60) == 0, "\(writer.errors)")
    let read = try Tool(
      "iohost", ["read", url, "--block", "5", "--count", "1", "--output", place.file("back")])
    #expect(read.waitForEnd(limit: 60) == 0, "\(read.errors)")
    try place.shell("cmp block back")
    successor?.signal(SIGTERM)
    #expect(successor?.waitForEnd() == 0)
  }
}
