import Foundation
import TestSupport
import Testing

/// What the system or its administrator forbids is an error with words, never the end of a unit.
@Suite("Tools, limits", .untilStuck)
struct LimitTests {
  @Test("ST-62: a limit on the size of files fails the writes beyond it, and the unit goes on")
  func fileSizes() throws {
    let place = try Place()
    // Not less: memory that is shared counts as a file.
    func serve(_ volume: String) throws -> Tool {
      try Tool(
        shell: "ulimit -f 65536; exec $bin/iounit serve --listen shm:\(place.path)/u.sock "
          + "--volume d=\(volume)")
    }
    let refused = try serve("\(place.file("new.img")),size=128MiB")
    #expect(refused.waitForEnd() == 66)
    #expect(refused.errors.count == 1 && refused.errors[0].contains("ulimit -f"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)

    #expect(FileManager.default.createFile(atPath: place.file("old.img"), contents: nil))
    let file = try FileHandle(forWritingTo: URL(filePath: place.file("old.img")))
    try file.truncate(atOffset: 128 << 20)
    try file.close()
    let unit = try serve(place.file("old.img"))
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    try Data(repeating: 7, count: 4096).write(to: URL(filePath: place.file("data")))
    func write(at block: Int) throws -> Tool {
      try place.host(
        "write", place.url("d"), "--block", "\(block)", "--input", place.file("data"))
    }
    let beyond = try write(at: 20000)
    #expect(beyond.waitForEnd() == 74)
    #expect(beyond.errors.last?.contains("or its file may not grow") == true, "\(beyond.errors)")
    #expect(try write(at: 16383).waitForEnd() == 0)
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0, "\(unit.errors)")
  }

  @Test(
    "Units: an option given twice for a volume is refused", arguments: ["size=2MiB", "readonly"])
  func duplicates(_ option: String) throws {
    let place = try Place()
    let unit = try Tool(
      "iounit",
      [
        "serve", "--listen", "shm:\(place.path)/u.sock", "--volume",
        "m=memory,size=1MiB,\(option),\(option)",
      ])
    #expect(unit.waitForEnd() == 64)
    #expect(unit.errors.count == 1 && unit.errors[0].contains(" twice"), "\(unit.errors)")
  }
}
