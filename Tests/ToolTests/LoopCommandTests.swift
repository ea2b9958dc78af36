import Foundation
import TestSupport
import Testing

@Suite(
  "iohost attach, list, detach", .serialized, .untilStuck,
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)))
struct LoopCommandTests {
  @Test("HD-32: what is not ours in the state directory is left alone, by every command")
  func foreign() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    try place.shell(
      "mkdir -p state/disk/src state/photos; echo precious >state/disk/src/main.c; echo x >state/photos/lock; mkdir state/photos/more"
    )
    for words in [["list"], ["paths"], ["top", "--count", "1"], ["detach", "--all"]] {
      let tool = try Tool("iohost", words + ["--state-dir", place.stateDirectory])
      tool.waitForEnd()
      #expect(!tool.errors.joined().contains("cleaned up"), "\(tool.errors)")
    }
    let taken = try place.host("attach", place.url("disk"), "--as", "loop", "--name", "disk")
    #expect(
      taken.waitForEnd() == 64 && taken.errors.joined().contains("is no device's"),
      "\(taken.errors)")
    let device = try place.attach("disk")
    #expect(try place.status()["name"] as? String == "disk-2")
    #expect(try place.host("detach", device).waitForEnd() == 0)
    #expect(
      try place.shell("cat state/disk/src/main.c; ls state/photos") == ["precious", "lock", "more"])
    try place.shell("rm -r state/disk state/photos")
    let file = try Tool("iohost", ["list", "--state-dir", "/etc/passwd"])
    #expect(
      file.waitForEnd() == 66 && file.errors.joined().contains("/etc/passwd"), "\(file.errors)")
  }

  @Test("HD-32: without a record, or with another's, living devices stay and dead ones go")
  func damaged() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let device = try place.attach("disk")
    let processes = try place.processes()
    // A copy elsewhere is of no process there.
    try place.shell(
      "cp -r --no-preserve=mode state/disk copy.tmp 2>/dev/null || true; mkdir -p other; rm -rf copy.tmp/file copy.tmp/control; mkdir copy.tmp/file; mv copy.tmp other/disk"
    )
    let elsewhere = try Tool("iohost", ["list", "--state-dir", place.file("other")])
    elsewhere.waitForEnd()
    #expect(
      elsewhere.errors.joined().contains("lives and has its device elsewhere"),
      "\(elsewhere.errors)")
    #expect(place.isBound(device))
    // The lock is gone, the process is not.
    try place.shell("mv state/disk/lock lock")
    try place.host("list").waitForEnd()
    #expect(place.isBound(device))
    try place.shell("mv lock state/disk/lock")
    #expect(try place.host("list").output.first?.hasPrefix(device) == true)
    try place.shell("truncate -s 0 state/disk/device.json")
    kill(pid_t(processes.worker), SIGKILL)
    #expect(place.waits(limit: 60) { !place.isBound(device) })
    #expect(
      place.waits(limit: 60) { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    try place.expectNothingLeft(of: [processes.worker])
  }

  @Test("HD-34: what cannot be attached says why, with its code, and leaves nothing")
  func failures() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    for (arguments, code, words) in [
      ([place.url("nope")], 69, "expected one of the volumes disk"),
      ([place.url("disk"), place.url("disk")], 64, "expected each URL once"),
      ([place.url("disk"), "--policy", "fastest"], 64, "round-robin"),
      ([place.url("disk"), "--as", "floppy"], 64, "vhost-user:SOCKET or auto, got floppy"),
      ([place.url("disk"), "--as", "loop", "--recovery", "reissue"], 64, "with --as ublk or nbd"),
      ([place.url("disk"), "--name", "../x"], 64, "expected --name of"),
      (["fabric+shm://\(place.file("no.sock"))/disk"], 69, "found nothing"),
      (["fabric+shm://\(place.file("no.sock"))/disk", "--timeout", "0.5"], 75, "gave up on"),
      ([place.url("disk"), "--emulate", "i2o"], 64, "expected no --emulate"),
      (
        [place.url("disk"), "--name", String(repeating: "n", count: 64)], 66,
        "expected a socket path of"
      ),
    ] as [([String], Int32, String)] {
      let long = code == 66 ? place.file("state") + "/" + String(repeating: "d", count: 40) : nil
      if let long { try place.shell("mkdir -p \(long)") }
      let tool = try Tool(
        "iohost", ["attach"] + arguments + ["--state-dir", long ?? place.stateDirectory])
      #expect(tool.waitForEnd() == code, "\(arguments): \(tool.errors)")
      #expect(tool.errors.last?.contains(words) == true, "\(arguments): \(tool.errors)")
      #expect(tool.errors.count(where: { $0.hasPrefix("error: ") }) == 1, "\(tool.errors)")
      #expect(tool.output.isEmpty)
      if let long { try place.shell("rmdir \(long)") }
    }
    try place.expectNothingLeft(of: [])
  }

  @Test("HD-34: an attach that is interrupted while it waits leaves nothing")
  func interrupted() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let tool = try Tool(
      "iohost",
      [
        "attach", "fabric+shm://\(place.file("no.sock"))/disk", "--timeout", "60", "--state-dir",
        place.stateDirectory,
      ])
    #expect(
      try place.waits { try place.host("list").output.first?.contains("no device yet") == true })
    #expect(try place.status()["state"] as? String == "connecting")
    let processes = try place.processes()
    tool.signal(SIGINT)
    #expect(tool.waitForEnd() == 130)
    #expect(place.waits { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    #expect(place.waits { kill(pid_t(processes.worker), 0) != 0 })
    try place.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test("HD-40, HD-41: names, --as auto with its reason, JSON, several devices and --all")
  func several() throws {
    let place = try LoopPlace("disk=memory,size=1MiB", "other=memory,size=2MiB,block=512")
    let first = try place.host("attach", place.url("disk"))
    #expect(first.waitForEnd() == 0, "\(first.errors)")
    #expect(first.errors.first?.hasPrefix("as loop, because ") == true, "\(first.errors)")
    let second = try place.host("attach", place.url("disk"), "--json")
    let object = try JSONSerialization.jsonObject(with: Data(second.output.joined().utf8))
    #expect((object as? [String: Any])?["name"] as? String == "disk-2")
    #expect(second.errors.isEmpty, "\(second.errors)")
    _ = try place.attach("other", "--name", "mine")
    let taken = try place.host("attach", place.url("other"), "--name", "mine")
    #expect(taken.waitForEnd() == 64)
    let list = try place.host("list")
    #expect(list.output.filter { $0.hasPrefix("/dev/loop") }.count == 3)
    #expect(list.output.contains { $0.contains("2MiB in blocks of 512") }, "\(list.output)")
    let unknown = try place.host("detach", "nobody")
    #expect(unknown.waitForEnd() == 66)
    #expect(unknown.errors.last?.contains("mine (/dev/loop") == true, "\(unknown.errors)")
    #expect(try place.host("detach").waitForEnd() == 64)
    let all = try place.host("detach", "--all")
    #expect(all.waitForEnd() == 0, "\(all.errors)")
    #expect(all.output.count == 3)
    try place.expectNothingLeft(of: [])
  }

  @Test("HD-30: SIGTERM detaches in order, also in the foreground; a device in use stays")
  func terminated() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let tool = try Tool(
      "iohost",
      [
        "attach", place.url("disk"), "--as", "loop", "--foreground", "--state-dir",
        place.stateDirectory,
      ])
    // Where the kind is chosen, the reason names such a path, too, and before there is a device.
    #expect(tool.waits(for: "/dev/loop"), "\(tool.errors)")
    #expect(try place.waits { try place.status()["state"] as? String == "attached" })
    let device = try #require(try place.status()["device"] as? String)
    var holder = RawFile(device, isReadOnly: true)
    tool.signal(SIGTERM)
    #expect(tool.waits(for: "is not detached", "process \(getpid())"), "\(tool.errors)")
    #expect(place.isBound(device) && holder != nil)
    holder = nil
    let other = try place.processes().other
    tool.signal(SIGTERM)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    try place.expectNothingLeft(of: [other])
  }
}
