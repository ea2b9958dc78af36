import FabricVerbs
import Testing

@testable import FabricIWARP

@Suite("ReadsUnderWay")
struct ReadsUnderWayTests {
  @Test("responses come in the order of the requests, each byte once (IW-16)")
  func order() {
    var reads = ReadsUnderWay()
    var next = 0
    var asked = 0
    let key = RemoteKey(rawValue: 7)
    // Never none under way, so that what is over must make room by itself.
    for round in 0..<10_000 {
      while asked < round + 16 {
        reads.append(.init(key: key, offset: UInt64(asked) * 100, byteCount: 100))
        asked += 1
      }
      let offset = UInt64(next) * 100
      let answers = [
        reads.take(key: key, offset: offset + 100, byteCount: 100, true),
        reads.take(key: RemoteKey(rawValue: 8), offset: offset, byteCount: 100, true),
        reads.take(key: key, offset: offset, byteCount: 101, true),
        reads.take(key: key, offset: offset, byteCount: 60, true),
        reads.take(key: key, offset: offset, byteCount: 60, false),
        !reads.isAtBeginning && reads.doneByteCount == 60,
        reads.take(key: key, offset: offset + 60, byteCount: 40, true),
      ]
      #expect(answers == [false, false, false, false, true, true, true])
      #expect(reads.isAtBeginning)
      next += 1
    }
  }
}
