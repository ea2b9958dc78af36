import FabricPlatform
import Foundation
import TestSupport
import Testing

@Suite("iounit --nbd: what it takes and what not", .untilStuck)
struct NBDArgumentTests {
  private let volume = ["--volume", "disk=memory,size=1MiB"]

  private func refusal(_ code: Int32, _ words: String, _ arguments: String...) throws {
    let unit = try Tool("iounit", ["serve"] + volume + arguments)
    #expect(unit.waitForEnd() == code, "\(arguments)")
    #expect(unit.errors.last?.contains(words) == true, "\(unit.errors)")
    #expect(unit.output.isEmpty)
  }

  @Test("NB-40: addresses that cannot be are refused in one line")
  func addresses() throws {
    try refusal(64, "expected --nbd HOST:PORT|unix:PATH", "--nbd", "here")
    try refusal(64, "expected --nbd HOST:PORT|unix:PATH", "--nbd", "127.0.0.1:x")
    try refusal(64, "with a path of 1 to 107 bytes", "--nbd", "unix:")
    try refusal(
      64, "with a path of 1 to 107 bytes", "--nbd", "unix:/" + String(repeating: "a", count: 107))
    try refusal(64, "each --nbd once", "--nbd", "127.0.0.1:7", "--nbd", "127.0.0.1:7")
    try refusal(64, "to serve whoever comes, add --insecure", "--nbd", "0.0.0.0:0")
    try refusal(69, "expected a host that can be found", "--nbd", "nowhere.invalid:10809")
    try refusal(69, "found none: make it", "--nbd", "unix:/nowhere/n.sock")
    try refusal(69, "no socket is at /dev/null", "--nbd", "unix:/dev/null")
  }

  @Test("NB-41: NBD clients use what is allowed to the name nbd")
  func rights() throws {
    let place = try Place()
    try refusal(
      64, "expected one of the volumes disk", "--nbd", "127.0.0.1:0", "--allow", "nbd=other")
    try refusal(
      64, "--allow *=disk: expected \"nbd\" for NBD clients, got \"*\"", "--nbd", "127.0.0.1:0",
      "--allow", "*=disk")
    try refusal(
      64, "expected one of the volumes disk, got \"disk:rx\"; behind the name may be :ro or :rw",
      "--nbd", "127.0.0.1:0", "--allow", "nbd=disk:rx")
    try refusal(
      64, "expected --listen or --i2o with --keys", "--nbd", "127.0.0.1:0", "--keys", "some.keys")
    let keys = place.file("keys")
    let key = try Tool("iounit", ["key", "web"])
    key.waitForEnd()
    try (key.output.joined() + "\n").write(toFile: keys, atomically: false, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: keys)
    try refusal(
      64, "expected --allow nbd=VOLUME", "--nbd", "127.0.0.1:0", "--listen", "tcp:127.0.0.1:0",
      "--keys", keys, "--allow", "web=disk")
    let unit = try Tool(
      "iounit",
      ["serve", "--nbd", "unix:\(place.path)/n", "--allow", "nbd=disk:ro"] + volume
        + ["--volume", "mine=memory,size=1MiB"])
    #expect(unit.waits(for: "ready: 2 volumes at nbd+unix:///?socket=\(place.path)/n"))
    let list = try Tool(
      shell: "nbdinfo --list --json 'nbd+unix:///?socket=\(place.path)/n' || true")
    list.waitForEnd()
    if !list.output.isEmpty {
      let text = list.output.joined()
      #expect(text.contains(#""is_read_only": true"#) && !text.contains("mine"))
    }
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("NB-40: with --insecure every address; names and both families; a socket left behind")
  func listening() throws {
    let place = try Place()
    let socket = place.file("n.sock")
    let arguments =
      ["serve", "--nbd", "0.0.0.0:0", "--nbd", "[::1]:0", "--nbd", "unix:\(socket)", "--insecure"]
      + volume
    let unit = try Tool("iounit", arguments)
    #expect(unit.waits(for: "ready: 1 volume at nbd://0.0.0.0:", ", nbd://[::1]:"))
    let second = try Tool("iounit", arguments)
    #expect(second.waitForEnd() == 69)
    unit.signal(SIGKILL)
    unit.waitForEnd()
    #expect(FileKind.isSocket(socket))
    let third = try Tool("iounit", arguments)
    #expect(third.waits(for: "ready: "))
    third.signal(SIGINT)
    #expect(third.waitForEnd() == 0)
    #expect(!FileKind.isSocket(socket))
  }
}
