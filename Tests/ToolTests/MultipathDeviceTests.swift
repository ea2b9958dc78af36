import Foundation
import TestSupport
import Testing

@Suite(
  "iohost attach by several paths", .serialized, .untilStuck,
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)))
struct MultipathDeviceTests {
  /// The paths of the only device.
  private func paths(_ place: LoopPlace, _ options: String...) throws -> [[String: Any]] {
    let tool = try Tool(
      "iohost", ["paths", "--json", "--state-dir", place.stateDirectory] + options)
    try #require(tool.waitForEnd() == 0, "\(tool.errors)")
    let list = try JSONSerialization.jsonObject(with: Data(tool.output.joined().utf8))
    return try #require((list as? [[String: Any]])?.first?["paths"] as? [[String: Any]])
  }

  /// File systems, copies and verified data while paths over shared memory and TCP are cut and healed.
  /// `CHANNELFABRIC_DRILL_SECONDS` makes it last longer, and seeds in `CHANNELFABRIC_DRILL_SEED` repeat one.
  @Test(
    "HD-50: paths are cut and healed at random under file systems: no error, nothing lost",
    arguments: ["ext4", "xfs"])
  func drill(kind: String) throws {
    let environment = ProcessInfo.processInfo.environment
    let seconds = environment["CHANNELFABRIC_DRILL_SECONDS"].flatMap { Int($0) } ?? 8
    let seed =
      environment["CHANNELFABRIC_DRILL_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...1 << 32)
    print("paths that are cut: seed \(seed)")
    let first = try FreePort.endpoint()
    let second = try FreePort.endpoint()
    let place = try LoopPlace(
      "disk=%/d.img,size=600MiB",
      listens: [
        "tcp:\(first),cut=700ms:\(seed)", "tcp:\(second),state=non-optimised,cut=1s:\(seed + 1)",
      ])
    // The socket's path is there all the time, so that there is something to go on by: what happens when
    // none is there is another test.
    let device = try place.attach(
      "disk", "fabric+tcp://\(first)/disk", "fabric+tcp://\(second)/disk")
    try place.shell(
      FileSystemWork(kind: kind, device: device, seconds: seconds).script,
      limit: Double(seconds) * 3 + 120)
    let found = try paths(place)
    #expect(found.count == 3)
    // Of two that are cut one may be unlucky in all its attempts.
    #expect(found.count { ($0["requests"] as? Int ?? 0) > 100 } >= 2, "\(found)")
    #expect(found.allSatisfy { $0["errors"] as? Int == 0 }, "\(found)")
    let losses = found.compactMap { $0["losses"] as? Int }
    #expect(losses[0] == 0 && losses[1] + losses[2] > 2, "a drill without losses: \(losses)")
    #expect(try place.status()["errors"] as? Int == 0)
  }

  @Test("HD-50: every path is cut, the only one of a moment, too: what waits goes on")
  func allPaths() throws {
    let seed = UInt64.random(in: 1...1 << 32)
    print("every path is cut: seed \(seed)")
    let endpoint = try FreePort.endpoint()
    let place = try LoopPlace(
      "disk=memory,size=64MiB", listens: ["tcp:\(endpoint),cut=300ms:\(seed)"])
    let tool = try place.host(
      "attach", "fabric+tcp://\(endpoint)/disk", "--as", "loop", "--timeout", "20")
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    let device = try #require(tool.output.first)
    try place.shell(
      """
      until [ $SECONDS -ge 4 ]; do
        fio --name=v --filename=\(device) --rw=randwrite --bs=4k --size=32m --iodepth=8 --direct=1 \
          --ioengine=libaio --verify=crc32c >fio.out
      done
      """)
    #expect((try paths(place)[0]["losses"] as? Int ?? 0) > 0)
  }

  @Test("HD-51: the unit's addresses are found, and requests follow a policy that is switched")
  func policies() throws {
    let endpoint = try FreePort.endpoint()
    let place = try LoopPlace("disk=memory,size=64MiB", listens: ["tcp:\(endpoint),delay=1ms"])
    let device = try place.attach("disk", "--all-paths", "--policy", "failover")
    func readAndCount() throws -> [Int] {
      let before = try paths(place).map { $0["requests"] as? Int ?? 0 }
      try place.shell(
        """
        fio --name=r --filename=\(device) --rw=randread --bs=4k --size=32m --iodepth=8 --direct=1 \
          --ioengine=libaio --number_ios=2000 --io_size=8000k >fio.out
        """)
      return zip(try paths(place), before).map { ($0["requests"] as? Int ?? 0) - $1 }
    }
    let failover = try readAndCount()
    #expect(failover.count == 2 && failover[0] >= 2000 && failover[1] == 0, "\(failover)")
    _ = try paths(place, "--policy", "round-robin")
    let turns = try readAndCount()
    #expect(abs(turns[0] - turns[1]) < 100, "\(turns)")
    for policy in ["queue-depth", "service-time", "latency-weighted"] {
      _ = try paths(place, "--policy", policy)
      let counts = try readAndCount()
      #expect(counts[0] > counts[1] && counts[1] > 0, "\(policy): \(counts)")
    }
    let refused = try place.host("paths", "--policy", "fastest")
    #expect(refused.waitForEnd() == 64 && refused.errors.joined().contains("fastest"))
    let table = try place.host("paths", device)
    #expect(table.output.count == 4 && table.output[2].contains("optimised"), "\(table.output)")
    let top = try place.host("top", "--count", "2", "--interval", "0.1")
    #expect(top.waitForEnd() == 0 && top.output.contains { $0.contains(device) })
  }

  @Test(
    "HD-52: without any path requests end with errors after --queue-timeout, and go on with a path")
  func queueTimeout() throws {
    let place = try LoopPlace(
      "disk=%/d.img,size=16MiB")
    let device = try place.attach("disk", "--queue-timeout", "0.5")
    place.killUnit()
    let failing = try Tool(shell: "dd if=\(device) of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    #expect(failing.waitForEnd(limit: 20) != 0)
    #expect(failing.output.joined().contains("Input/output error"), "\(failing.output)")
    for options in [[], ["--path", "0"]] {
      let call = try Tool(
        "iohost",
        ["control", device, "identify", "--state-dir", place.stateDirectory] + options)
      #expect(call.waitForEnd(limit: 20) == 74)
      #expect(call.errors.last?.contains("to be connected, but") == true, "\(call.errors)")
    }
    try place.serve()
    #expect(
      try place.waits {
        try Tool(shell: "dd if=\(device) of=/dev/null bs=4k count=1 iflag=direct").waitForEnd() == 0
      })
  }

  @Test("HD-50: a path to another volume is told of, and used when it leads to the right one again")
  func otherVolume() throws {
    let endpoint = try FreePort.endpoint()
    let place = try LoopPlace("disk=%/d.img,size=16MiB")
    // Nobody listens there yet, so that the device is of the volume at the first.
    let attaching = try place.host(
      "attach", place.url("disk"), "fabric+tcp://\(endpoint)/disk", "--as", "loop")
    try #require(attaching.waitForEnd() == 0)
    let device = try #require(attaching.output.first)
    let other = try Place()
    var second = try other.serve("disk=memory,size=16MiB", listen: "tcp:\(endpoint)")
    #expect(
      try place.waits(limit: 60) {
        try place.host("list").output.joined().contains(
          "waiting: expected fabric+tcp://\(endpoint)/disk to be the volume")
      })
    second.signal(SIGKILL)
    second.waitForEnd()
    place.killUnit()
    second = try other.serve("disk=\(place.file("d.img")),size=16MiB", listen: "tcp:\(endpoint)")
    // Without it a read would hang.
    try #require(place.waits(limit: 60) { try paths(place)[1]["state"] as? String == "ready" })
    try place.shell("dd if=\(device) of=/dev/null bs=4k count=8 iflag=direct")
    second.signal(SIGKILL)
  }

  @Test(
    "HD-52: a path that the unit calls inaccessible is none: requests end after --queue-timeout")
  func inaccessible() throws {
    let endpoint = try FreePort.endpoint()
    let place = try LoopPlace(
      "disk=memory,size=16MiB", listens: ["tcp:\(endpoint),state=inaccessible"])
    let only = try place.host(
      "attach", "fabric+tcp://\(endpoint)/disk", "--as", "loop", "--timeout", "4")
    #expect(only.waitForEnd() == 75)
    #expect(
      only.errors.joined().contains("the unit calls fabric+tcp://\(endpoint)/disk inaccessible"),
      "\(only.errors)")
    let device = try place.attach("disk", "fabric+tcp://\(endpoint)/disk", "--queue-timeout", "0.5")
    try place.shell("dd if=\(device) of=/dev/null bs=4k count=8 iflag=direct")
    #expect(try paths(place)[1]["requests"] as? Int == 0)
  }

  @Test("HD-53: control calls from the command and from ioctl on the file: result, errno, payload")
  func control() throws {
    let place = try LoopPlace("disk=memory,size=8MiB")
    let device = try place.attach("disk")
    let identity = try place.host("control", device, "identify")
    #expect(identity.waitForEnd() == 0, "\(identity.errors)")
    #expect(identity.output.contains("size      2048 blocks of 4096 bytes"), "\(identity.output)")
    let unknown = try place.host("control", device, "99")
    #expect(unknown.waitForEnd() == 74)
    #expect(unknown.errors.joined().contains("Inappropriate ioctl"), "\(unknown.errors)")
    let json = try place.host("control", device, "0x80000001", "--payload", "00ff", "--json")
    #expect(json.output.joined().contains("\"errno\": 25"), "\(json.output)")
    let size = try place.host("control", device, "set-block-size", "--bytes", "4096", "--json")
    #expect(size.output.joined().contains("\"result\": 4096,"), "\(size.output)")
    for wrong in [
      ["erase"], ["identify", "--payload", "0"], ["identify", "--payload", "xx"],
      ["identify", "--bytes", "4096"], ["set-block-size"], ["identify", "--path", "1"],
    ] {
      let tool = try Tool(
        "iohost", ["control", device] + wrong + ["--state-dir", place.stateDirectory])
      #expect(tool.waitForEnd() == 64, "\(wrong): \(tool.errors)")
    }
    let file = try #require(try place.status()["file"] as? String)
    let lines = try place.shell(
      """
      cat >ask.py <<'END'
      import errno, fcntl, os, struct, sys
      file = os.open(sys.argv[1], os.O_RDONLY)
      number = 3 << 30 | 212 << 16 | 0x46 << 8 | 0x43
      def ask(code, payload=b'', number=number, reserved=0):
          call = struct.pack('<IiHH200s', code, 0, len(payload), reserved, payload)
          try:
              found = struct.unpack('<IiHH200s', fcntl.ioctl(file, number, call))
              print(found[0], found[1], found[4][:found[2]].hex())
          except OSError as error:
              print(errno.errorcode[error.errno])
      ask(2)
      ask(3, struct.pack('<I', 4096))
      ask(3, struct.pack('<I', 512))
      ask(4)
      ask(7)
      ask(99)
      ask(2, number=number + 1)
      ask(2, reserved=1)
      END
      python3 ask.py \(file)
      """)
    #expect(
      lines == [
        "2 4096 ", "3 4096 ", "EINVAL", "4 0 0008000000000000", "ENOTSUP", "ENOTTY", "ENOTTY",
        "EINVAL",
      ])
  }
}
