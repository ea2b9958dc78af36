import FabricHostDevices
import FabricPlatform
import Foundation
import TestMachine
import TestSupport
import Testing

@Suite("iohost attach --as vhost-user", .serialized, .untilStuck)
struct VhostUserAttachTests {
  @Test("VU-60: a volume is a machine's disk, listed by its socket; detached nothing is left of it")
  func life() throws {
    let machine = try MachinePlace("disk=%/d.img,size=16MiB")
    let place = machine.place
    try machine.offer()
    var status = try place.status()
    #expect(status["device"] as? String == machine.socket)
    #expect(status["kind"] as? String == "vhost-user")
    #expect(status["name"] as? String == "disk")
    #expect(status["byteCount"] as? Int == 16 << 20)
    let list = try place.host("list")
    #expect(list.output.first == "\(machine.socket)  disk, vhost-user", "\(list.output)")
    let mode = try FileManager.default.attributesOfItem(atPath: machine.socket)[.posixPermissions]
    #expect((mode as? NSNumber)?.intValue == 0o600)
    do {
      let frontEnd = try machine.connect()
      _ = try machine.start(frontEnd)
      var ends = 0
      let requests = machine.write(4, by: frontEnd)
      #expect(
        frontEnd.run {
          ends += machine.queue.reap().count
          return ends == 4
        })
      #expect(requests.allSatisfy { $0.status(in: machine.memory) == 0 })
      #expect(frontEnd.perform(4, on: machine.queue)?.status == 0)
      #expect(machine.hasWritten(4, by: frontEnd))
    }
    status = try place.status()
    #expect(status["writes"] as? Int == 4 && status["writeBytes"] as? Int == 16384, "\(status)")
    #expect(status["reads"] as? Int == 1 && status["flushes"] as? Int == 1, "\(status)")
    #expect(status["errors"] as? Int == 0 && status["inFlight"] as? Int == 0, "\(status)")
    let paths = try machine.paths()
    #expect(paths.count == 1 && paths[0]["state"] as? String == "ready", "\(paths)")
    let identity = try place.host("control", machine.socket, "identify")
    #expect(identity.waitForEnd() == 0, "\(identity.errors)")
    #expect(identity.output.contains("size      4096 blocks of 4096 bytes"), "\(identity.output)")
    let processes = try place.processes()
    // The front end has hung up, which its own end has not waited for.
    var detached: [String] = []
    #expect(
      try place.waits {
        let tool = try place.host("detach", machine.socket)
        detached = tool.output
        return tool.waitForEnd() == 0
      })
    #expect(detached == ["detached \(machine.socket)"])
    try machine.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test("VU-60: a socket is found by another way to it, and by a path from here")
  func otherNames() throws {
    let machine = try MachinePlace("disk=memory,size=1MiB")
    let place = machine.place
    try place.shell("mkdir real; ln -s real linked")
    let tool = try Tool(
      shell: """
        cd \(place.place.path); "$bin/iohost" attach \(place.url("disk")) --as vhost-user:linked/v \
          --state-dir \(place.stateDirectory)
        """)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(tool.output == [place.file("linked/v")])
    let processes = try place.processes()
    // The other process starts a new one at that path, too.
    kill(Int32(processes.worker), SIGKILL)
    let next = try machine.processes(after: processes)
    #expect(MachinePlace.isThere(place.file("real/v")))
    let detached = try Tool(
      shell: """
        cd \(place.file("real")); "$bin/iohost" detach v --state-dir \(place.stateDirectory)
        """)
    #expect(detached.waitForEnd() == 0, "\(detached.errors)")
    #expect(!MachinePlace.isThere(place.file("real/v")))
    try machine.expectNothingLeft(of: [processes, next].flatMap { [$0.worker, $0.other] })
  }

  @Test("VU-61: a machine's disk is not detached, and who has it is told; --force hangs up")
  func inUse() throws {
    let machine = try MachinePlace("disk=memory,size=1MiB")
    let place = machine.place
    try machine.offer()
    let frontEnd = try machine.connect()
    _ = try machine.start(frontEnd)
    let refused = try place.host("detach", machine.socket)
    #expect(refused.waitForEnd() == 74)
    #expect(
      refused.errors.last?.contains("(process \(getpid()))") == true, "\(refused.errors)")
    // It stays as it was.
    #expect(frontEnd.perform(4, on: machine.queue)?.status == 0)
    #expect(try place.status()["state"] as? String == "attached")
    let processes = try place.processes()
    let forced = try place.host("detach", "disk", "--force")
    #expect(forced.waitForEnd() == 0, "\(forced.errors)")
    #expect(frontEnd.reply() == nil)
    try machine.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test("VU-61: SIGTERM to its process is a detach: refused in use, and carried out when it is not")
  func terminated() throws {
    let machine = try MachinePlace("disk=memory,size=1MiB")
    let place = machine.place
    try machine.offer()
    let processes = try place.processes()
    do {
      let frontEnd = try machine.connect()
      _ = try machine.start(frontEnd)
      kill(Int32(processes.worker), SIGTERM)
      #expect(place.waits { machine.log.contains("is not detached") })
      #expect(frontEnd.perform(4, on: machine.queue)?.status == 0)
    }
    #expect(
      place.waits {
        kill(Int32(processes.worker), SIGTERM)
        return !MachinePlace.isThere("\(place.stateDirectory)/disk")
      })
    try machine.expectNothingLeft(of: [processes.worker, processes.other])
  }

  @Test(
    "VU-62, VU-54: kill -9 of its process, three times: another serves on, each write is done",
    arguments: [false, true])
  func processIsKilled(isOverTCP: Bool) throws {
    let machine = try MachinePlace(
      "disk=%/d.img,size=16MiB,fault=delay=500ms:write", isOverTCP: isOverTCP)
    let place = machine.place
    try machine.offer()
    var frontEnd = try machine.connect()
    let inflight = try machine.start(frontEnd)
    var processes = try place.processes()
    var old: [Int] = []
    for round in 1...3 {
      let requests = machine.write(8, by: frontEnd)
      #expect(place.waits { inflight.notedCount == 8 })
      kill(Int32(processes.worker), SIGKILL)
      #expect(frontEnd.reply() == nil)
      #expect(machine.queue.reap().isEmpty, "round \(round): the writes were not under way")
      frontEnd = try machine.connect()
      _ = try machine.start(frontEnd, inflight)
      var ends: [Int] = []
      try #require(
        frontEnd.run {
          ends += machine.queue.reap().map(\.head)
          return ends.count >= 8
        }, "round \(round): \(machine.log)")
      #expect(ends.count == 8 && Set(ends).count == 8, "round \(round): \(ends)")
      #expect(requests.allSatisfy { $0.status(in: machine.memory) == 0 })
      #expect(machine.hasWritten(8, by: frontEnd))
      old += [processes.worker, processes.other]
      processes = try machine.processes(after: processes)
    }
    #expect(machine.log.contains("has died; another serves it on"))
    // The one that watches may die as well.
    kill(Int32(processes.other), SIGKILL)
    old.append(processes.other)
    processes = try machine.processes(after: (worker: 0, other: processes.other))
    kill(Int32(processes.worker), SIGKILL)
    #expect(frontEnd.reply() == nil)
    frontEnd = try machine.connect()
    _ = try machine.start(frontEnd, inflight)
    #expect(machine.hasWritten(8, by: frontEnd))
    old += [processes.worker, processes.other]
    let last = try machine.processes(after: processes)
    #expect(try place.host("detach", "disk", "--force").waitForEnd() == 0)
    try machine.expectNothingLeft(of: old + [last.worker, last.other])
  }

  @Test("VU-62: the unit dies, its process, the one that watches, and the next; then all goes on")
  func allDie() throws {
    let machine = try MachinePlace("disk=%/d.img,size=16MiB")
    let place = machine.place
    try machine.offer()
    var frontEnd = try machine.connect()
    let inflight = try machine.start(frontEnd)
    let first = try place.processes()
    place.killUnit()
    let requests = machine.write(4, by: frontEnd)
    #expect(place.waits { inflight.notedCount == 4 })
    kill(Int32(first.worker), SIGKILL)
    #expect(frontEnd.reply() == nil)
    try machine.waitForAnother(than: first.worker)
    frontEnd = try FrontEnd(path: machine.socket, memory: machine.memory)
    // The next one waits for the unit, and has another watch over it when the one that started it dies.
    kill(Int32(first.other), SIGKILL)
    let second = try machine.processes(after: first)
    kill(Int32(second.worker), SIGKILL)
    #expect(frontEnd.reply() == nil)
    try place.serve()
    frontEnd = try machine.connect()
    _ = try machine.start(frontEnd, inflight)
    var ends = 0
    #expect(
      frontEnd.run {
        ends += machine.queue.reap().count
        return ends == 4
      }, "\(machine.log)")
    #expect(requests.allSatisfy { $0.status(in: machine.memory) == 0 })
    #expect(machine.hasWritten(4, by: frontEnd))
    let last = try machine.processes(after: second)
    #expect(try place.host("detach", machine.socket, "--force").waitForEnd() == 0)
    try machine.expectNothingLeft(
      of: [first, second, last].flatMap { [$0.worker, $0.other] })
  }

  /// A machine that was started anew, and knows of nothing that was under way: what it asks is answered when
  /// the dead process's write has ended at the unit, and not before.
  @Test("VU-62, IO-14: a dead process's writes are over before the next one asks the unit anything")
  func fenced() throws {
    let machine = try MachinePlace("disk=%/d.img,size=16MiB,fault=delay=3s:write")
    let place = machine.place
    try machine.offer()
    var frontEnd = try machine.connect()
    _ = try machine.start(frontEnd)
    let start = MonotonicTime.now
    _ = machine.write(1, by: frontEnd)
    #expect(try place.waits { try machine.underWayCount() == 1 })
    kill(Int32(try place.processes().worker), SIGKILL)
    #expect(frontEnd.reply() == nil)
    let queue = MachineQueue(machine.memory, size: 64, base: 0x4000, hasEventIndex: false)
    frontEnd = try machine.connect()
    frontEnd.negotiate(without: .eventIndex)
    #expect(frontEnd.setMemory())
    try frontEnd.start(queue)
    let back = MachinePiece(offset: 0x20_0000, count: 4096, isWritable: true)
    let read = frontEnd.perform(0, [back], on: queue, place: 0xC000)
    #expect(read?.status == 0, "\(machine.log)")
    #expect(MonotonicTime.now.nanoseconds(since: start) >= 3_000_000_000)
    #expect(machine.memory.holds(0x50, at: back.offset, count: 4096))
    let epochs = (place.unit?.errors ?? []).filter { $0.contains("attached again, epoch") }
    #expect(epochs.count == 1, "\(place.unit?.errors ?? [])")
  }

  @Test("VU-63: what cannot be listened at ends with one line, and nothing is left")
  func wrongSockets() throws {
    let machine = try MachinePlace("disk=memory,size=1MiB")
    let place = machine.place
    let living = try StreamSocket.listen(atPath: place.file("living"))
    try place.shell("echo >file; mkdir directory")
    let long = place.file(String(repeating: "l", count: 108))
    for (socket, code, words) in [
      ("", 64, "vhost-user:SOCKET"),
      (":", 64, "vhost-user:SOCKET"),
      (":\(long)", 66, "expected a socket path of 1 to 107 bytes, got \(long.utf8.count)"),
      (":\(place.file("living"))", 66, "stop the process that listens there"),
      (":\(place.file("file"))", 66, "a file that is no socket is at"),
      (":\(place.file("directory"))", 66, "a file that is no socket is at"),
      (":\(place.file("none/v"))", 66, "expected a directory to make the socket"),
    ] {
      let tool = try place.host("attach", place.url("disk"), "--as", "vhost-user\(socket)")
      #expect(tool.waitForEnd() == code, "\(socket): \(tool.errors)")
      #expect(tool.output.isEmpty)
      #expect(tool.errors.count == 1 && tool.errors[0].contains(words), "\(tool.errors)")
      let left = try? FileManager.default.contentsOfDirectory(atPath: place.stateDirectory)
      #expect((left ?? []).isEmpty, "\(socket): \(left ?? [])")
    }
    #expect(MachinePlace.isThere(place.file("living")) && MachinePlace.isThere(place.file("file")))
    let recovery = try place.host(
      "attach", place.url("disk"), "--as", "vhost-user:\(machine.socket)", "--recovery", "queue")
    #expect(recovery.waitForEnd() == 64)
    // The first one has it.
    try machine.offer()
    let second = try place.host(
      "attach", place.url("disk"), "--as", "vhost-user:\(machine.socket)")
    #expect(second.waitForEnd() == 66 && second.errors.count == 1, "\(second.errors)")
    let frontEnd = try machine.connect()
    _ = try machine.start(frontEnd)
    #expect(frontEnd.perform(4, on: machine.queue)?.status == 0)
    _ = consume living
  }

  @Test("VU-64, VU-2: a socket that was left behind is taken over, or goes with its entry")
  func leftBehind() throws {
    let machine = try MachinePlace("disk=memory,size=1MiB")
    let place = machine.place
    do { _ = try StreamSocket.listen(atPath: machine.socket) }
    try machine.offer()
    var frontEnd = try machine.connect()
    _ = try machine.start(frontEnd)
    #expect(frontEnd.perform(4, on: machine.queue)?.status == 0)
    let processes = try place.processes()
    // Both die, so that nobody is left to start another one.
    kill(Int32(processes.worker), SIGSTOP)
    kill(Int32(processes.other), SIGKILL)
    kill(Int32(processes.worker), SIGKILL)
    #expect(frontEnd.reply() == nil)
    #expect(MachinePlace.isThere(machine.socket))
    let list = try place.host("list")
    #expect(list.waitForEnd() == 0)
    #expect(list.errors.count == 1 && list.errors[0].contains("cleaned up disk"), "\(list.errors)")
    try machine.expectNothingLeft(of: [processes.worker, processes.other])
    // Where somebody else listens by then the socket stays.
    try machine.offer()
    let others = try place.processes()
    kill(Int32(others.worker), SIGSTOP)
    kill(Int32(others.other), SIGKILL)
    kill(Int32(others.worker), SIGKILL)
    try FileManager.default.removeItem(atPath: machine.socket)
    let living = try StreamSocket.listen(atPath: machine.socket)
    #expect(try place.host("list").waitForEnd() == 0)
    #expect(MachinePlace.isThere(machine.socket))
    frontEnd = try FrontEnd(path: machine.socket, memory: machine.memory)
    _ = consume living
  }

  @Test("VU-65: two paths, shared memory and TCP, of which one is cut again and again: no error")
  func twoPaths() throws {
    let seed = UInt64.random(in: 1...1 << 32)
    print("a machine's disk by two paths of which one is cut: seed \(seed)")
    let endpoint = try FreePort.endpoint()
    let machine = try MachinePlace(
      "disk=%/d.img,size=16MiB", listens: ["tcp:\(endpoint),cut=300ms:\(seed)"])
    try machine.offer("fabric+tcp://\(endpoint)/disk")
    let frontEnd = try machine.connect()
    _ = try machine.start(frontEnd)
    let end = MonotonicTime.now + .seconds(300)
    func losses() throws -> [Int] { try machine.paths().map { $0["losses"] as? Int ?? 0 } }
    var found = try losses()
    while found[1] < 3, MonotonicTime.now < end {
      for _ in 0..<40 {
        var ends = 0
        let requests = machine.write(8, by: frontEnd)
        try #require(
          frontEnd.run {
            ends += machine.queue.reap().count
            return ends == 8
          }, "\(machine.log)")
        #expect(requests.allSatisfy { $0.status(in: machine.memory) == 0 })
        #expect(machine.hasWritten(8, by: frontEnd))
      }
      found = try losses()
    }
    #expect(found[0] == 0 && found[1] >= 3, "\(found)")
    let paths = try machine.paths()
    #expect(paths.allSatisfy { $0["requests"] as? Int ?? 0 > 0 }, "\(paths)")
    #expect(try machine.place.status()["errors"] as? Int == 0)
  }
}
