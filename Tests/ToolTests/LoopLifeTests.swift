import Foundation
import TestSupport
import Testing

@Suite(
  "iohost attach --as loop: file systems, ends and deaths", .serialized, .untilStuck,
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)))
struct LoopLifeTests {
  @Test("HD-33: a file system lives on it; mounted it is not detached", arguments: ["ext4", "xfs"])
  func fileSystem(kind: String) throws {
    let place = try LoopPlace("disk=memory,size=320MiB")
    let device = try place.attach("disk")
    let root = URL(filePath: #filePath).deletingLastPathComponent().path
    try place.shell(
      """
      mkfs.\(kind) -q \(device); mkdir mnt; mount \(device) mnt
      cp -r \(root) mnt/tree; diff -r \(root) mnt/tree; sync
      """)
    let refused = try place.host("detach", device)
    #expect(refused.waitForEnd() == 74)
    #expect(
      refused.errors.last?.contains("mounted at \(place.file("mnt"))") == true, "\(refused.errors)")
    let check = kind == "xfs" ? "xfs_repair -n \(device)" : "fsck.ext4 -fn \(device)"
    try place.shell(
      "umount mnt; mount \(device) mnt; diff -r \(root) mnt/tree; umount mnt; \(check)")
    let processes = try place.processes()
    #expect(try place.host("detach", "disk").waitForEnd() == 0)
    try place.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test("HD-33: held open it is not detached, and stays as it was; --force detaches it")
  func heldOpen() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let device = try place.attach("disk")
    var holder = RawFile(device, isReadOnly: true)
    try #require(holder != nil)
    let refused = try place.host("detach", device)
    #expect(refused.waitForEnd() == 74)
    #expect(refused.errors.last?.contains("process \(getpid())") == true, "\(refused.errors)")
    #expect(
      try String(
        contentsOfFile: "/sys/block/\(device.dropFirst(5))/loop/autoclear", encoding: .utf8)
        == "0\n")
    let file = try #require(place.status()["file"] as? String)
    var reader = RawFile(file, isReadOnly: true)
    try #require(reader != nil)
    let byFile = try place.host("detach", device)
    #expect(byFile.waitForEnd() == 74)
    #expect(byFile.errors.last?.contains("\(file) held open by") == true, "\(byFile.errors)")
    reader = nil
    let forced = try place.host("detach", device, "--force")
    #expect(forced.waitForEnd() == 0, "\(forced.errors)")
    #expect(holder?.read(4096, at: 0) == .failed(EIO))
    holder = nil
    #expect(place.waits { !place.isBound(device) })
    try place.expectNothingLeft(of: [])
  }

  @Test("HD-33: detach says that the process it waits for is stopped, and ends when it goes on")
  func stopped() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    _ = try place.attach("disk")
    let process = pid_t(try place.processes().worker)
    kill(process, SIGSTOP)
    // A device that cannot be asked is not to go unseen.
    let listing = try place.host("list", "--json")
    #expect(listing.waitForEnd(limit: 30) == 75 && listing.output == ["[]"], "\(listing.errors)")
    let detaching = try Tool(
      "iohost", ["detach", "disk", "--state-dir", place.stateDirectory])
    #expect(detaching.waits(for: "process \(process) is stopped", limit: 30), "\(detaching.errors)")
    kill(process, SIGCONT)
    #expect(detaching.waitForEnd(limit: 30) == 0, "\(detaching.errors)")
  }

  @Test(
    "HD-35: kill -9 of the unit under load, and again served: no error reaches who uses the device")
  func unitIsKilled() throws {
    let place = try LoopPlace("disk=%/d.img,size=96MiB,fault=delay=1ms")
    let device = try place.attach("disk")
    let load = try Tool(
      shell: """
        set -e; cd \(place.file("")); until [ $SECONDS -ge 5 ]; do
        fio --name=v --filename=\(device) --rw=randrw --bs=4k-256k --size=32M \
        --offset_increment=32M --numjobs=3 --ioengine=libaio --iodepth=8 --direct=1 \
        --verify=crc32c --verify_fatal=1 --group_reporting
        done
        """)
    for round in 1...2 {
      let start = try place.status()["writes"] as? Int ?? 0
      #expect(try place.waits { (try place.status()["writes"] as? Int ?? 0) > start + 50 })
      place.killUnit()
      #expect(try place.waits { try place.status()["state"] as? String == "connecting" })
      try place.serve()
      #expect(try place.waits { try place.status()["reconnects"] as? Int == round })
    }
    let code = load.waitForEnd(limit: 90)
    let log = try place.shell("cat state/disk/log").joined(separator: "\n")
    let status = try place.status()
    #expect(code == 0, "\(status) \(log) \(load.errors)")
    #expect(status["errors"] as? Int == 0)
  }

  @Test("HD-35, HD-52: a unit that stays away: requests wait, with --queue-timeout they fail")
  func unitStaysAway() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let device = try place.attach("disk", "--queue-timeout", "1")
    place.killUnit()
    let reader = try Tool(shell: "dd if=\(device) of=/dev/null bs=4k count=1 iflag=direct")
    #expect(reader.waitForEnd(limit: 20) != 0)
    let status = try place.status()
    #expect(status["state"] as? String == "failing", "\(status)")
    let refused = try place.host("detach", device)
    #expect(refused.waitForEnd() == 74)
    #expect(refused.errors.last?.contains("--force") == true, "\(refused.errors)")
    #expect(try place.host("detach", device, "--force").waitForEnd() == 0)
    try place.expectNothingLeft(of: [])
  }

  @Test("HD-31: kill -9 of the device's process: nothing is left, and nothing hangs")
  func workerIsKilled() throws {
    let place = try LoopPlace("disk=memory,size=64MiB")
    let device = try place.attach("disk")
    let load = try Tool(
      shell: "while :; do dd if=/dev/zero of=\(device) bs=1M count=60 oflag=direct || exit 9; done")
    #expect(try place.waits { (try place.status()["writes"] as? Int ?? 0) > 100 })
    let processes = try place.processes()
    kill(pid_t(processes.worker), SIGKILL)
    // An error, and no hang.
    #expect(load.waitForEnd(limit: 20) == 9)
    #expect(place.waits { !place.isBound(device) })
    #expect(place.waits { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    #expect(try place.host("list").output == [])
    try place.expectNothingLeft(of: [processes.worker, processes.other])
    _ = try place.attach("disk")
  }

  /// Its own request to the file that it serves keeps the kernel from ending it, until somebody ends the request.
  @Test("HD-31: kill -9 of the device's process while it waits for its own file: nothing is left")
  func workerIsKilledWaiting() throws {
    let place = try LoopPlace("disk=memory,size=1MiB,fault=delay=600s")
    let attaching = try Tool(
      "iohost",
      ["attach", place.url("disk"), "--as", "loop", "--state-dir", place.stateDirectory])
    // The kernel flushes the file before it makes a loop device of it.
    var worker = 0
    #expect(
      place.waits(limit: 60) {
        guard let data = FileManager.default.contents(atPath: place.file("state/disk/device.json")),
          let record = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
          let process = record["processIdentifier"] as? Int
        else { return false }
        worker = process
        let threads =
          (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
        return threads.contains { thread in
          (try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/wchan", encoding: .utf8))
            == "request_wait_answer"
        }
      })
    try #require(worker > 1)
    kill(pid_t(worker), SIGKILL)
    #expect(attaching.waitForEnd(limit: 20) != 0)
    #expect(
      place.waits(limit: 60) { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    try place.expectNothingLeft(of: [worker])
  }

  @Test("HD-34: an attach whose unit does not answer ends with --timeout, or with its command")
  func unanswered() throws {
    let place = try LoopPlace("disk=memory,size=1MiB,fault=delay=600s")
    let timed = try place.host("attach", place.url("disk"), "--as", "loop", "--timeout", "1")
    #expect(timed.waitForEnd() == 75)
    #expect(
      timed.errors.joined().contains("gave up on \(place.url("disk")) after 1 s"), "\(timed.errors)"
    )
    try place.expectNothingLeft(of: [])
    let interrupted = try Tool(
      "iohost",
      ["attach", place.url("disk"), "--as", "loop", "--state-dir", place.stateDirectory])
    #expect(
      try place.waits(limit: 60) {
        try place.host("list").output.joined().contains("connecting: the unit does not")
      })
    interrupted.signal(SIGINT)
    #expect(interrupted.waitForEnd() != 0)
    #expect(
      place.waits(limit: 60) { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    try place.expectNothingLeft(of: [])
  }

  @Test("HD-17: a volume that has grown: after a rescan the device has its size, under load, too")
  func growth() throws {
    let place = try LoopPlace("disk=%/d.img,size=16MiB")
    let device = try place.attach("disk")
    let load = try Tool(
      shell:
        "while :; do dd if=/dev/zero of=\(device) bs=64k count=200 oflag=direct || exit 9; done")
    try place.shell("truncate -s 24M d.img; $bin/iohost control \(device) rescan --state-dir state")
    #expect(
      place.waits(limit: 60) {
        (try? place.shell("blockdev --getsize64 \(device)")) == ["\(24 << 20)"]
      })
    #expect(try place.status()["byteCount"] as? Int == 24 << 20)
    #expect(load.isRunning)
    load.signal(SIGKILL)
    load.waitForEnd()
    try place.shell(
      """
      head -c 8M /dev/urandom >new; dd if=new of=\(device) bs=1M seek=16 oflag=direct
      dd if=\(device) bs=1M skip=16 iflag=direct | cmp - new
      """)
  }

  @Test(
    "HD-31: kill -9 of the device's process with a file system mounted: errors, and an unmount frees all"
  )
  func workerIsKilledMounted() throws {
    let place = try LoopPlace("disk=memory,size=64MiB")
    let device = try place.attach("disk")
    try place.shell(
      "mkfs.ext4 -q \(device); mkdir mnt; mount \(device) mnt; head -c 5M /dev/urandom >mnt/file")
    let processes = try place.processes()
    kill(pid_t(processes.worker), SIGKILL)
    #expect(place.waits { !FileManager.default.fileExists(atPath: place.file("state/disk")) })
    #expect(try place.host("list").output == [])
    let writer = try Tool(
      shell: "dd if=/dev/zero of=\(place.file("mnt/other")) bs=1M count=8 conv=fsync")
    #expect(writer.waitForEnd(limit: 20) != 0)
    try place.shell("umount mnt", limit: 20)
    #expect(place.waits { !place.isBound(device) })
    try place.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test(
    "HD-31, HD-32: the other process is made anew; with both dead the next command cleans up and says so"
  )
  func bothAreKilled() throws {
    let place = try LoopPlace("disk=memory,size=1MiB")
    let device = try place.attach("disk")
    let first = try place.processes()
    kill(pid_t(first.other), SIGKILL)
    #expect(
      try place.waits {
        let now = try place.status()["guardPID"] as? Int
        return now != nil && now != first.other
      })
    let second = try place.processes()
    #expect(second.worker == first.worker && place.isBound(device))
    kill(pid_t(second.other), SIGKILL)
    kill(pid_t(second.worker), SIGKILL)
    // Its end is what the list goes by; a guard that came in between cleans up as well.
    var said = ""
    #expect(
      try place.waits {
        let list = try place.host("list")
        said += list.errors.joined()
        return list.output.isEmpty
      })
    #expect(place.waits { !place.isBound(device) })
    #expect(said.contains("cleaned up disk: process \(second.worker)"), "\(said)")
    try place.expectNothingLeft(of: [second.worker, second.other])
  }
}
