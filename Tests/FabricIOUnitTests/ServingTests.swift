import FabricHostDriver
import FabricIOUnit
import FabricPlatform
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("I/O unit over shared memory", .untilStuck)
struct ServingTests {
  @Test(
    "IO-30, IO-31, IO-32, IO-33, IO-34: each command works on a memory volume and on a file",
    arguments: ["m", "f"])
  func commands(volume: String) throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let store = try FileStore.open(
        path: scratch.file("f.img"), options: .init(byteCountIfMissing: 1 << 24))
      return [Volume(name: "f", store: store)]
    }
    let host = try TestHost(unit.address(volume))
    #expect(host.run { host.isAttached }, "\(host.states)")
    #expect(host.queue.info?.blockCount == 4096)
    host.fill(0xAB, count: 32 * 4096)
    #expect(host.perform(.write, 100, 32)?.status == .success)
    host.fill(0, count: 64 * 4096)
    let read = host.perform(.read, 100, 32, offset: 65536)
    #expect(read?.status == .success)
    #expect(read?.transferredByteCount == 131_072)
    #expect(host.holds(0xAB, offset: 65536, count: 32 * 4096))
    #expect(host.perform(.compare, 100, 1, offset: 65536)?.status == .success)
    #expect(host.perform(.compare, 99, 1, offset: 65536)?.status == .compareFailure)
    #expect(host.perform(.flush, 0, 0)?.status == .success)
    #expect(host.perform(.write, 5, 1, flags: .forceUnitAccess)?.status == .success)
    #expect(host.perform(.writeZeroes, 101, 1)?.status == .success)
    #expect(host.perform(.deallocate, 102, 1)?.status == .success)
    #expect(host.perform(.read, 100, 4)?.status == .success)
    #expect(host.holds(0xAB, count: 4096) && host.holds(0, offset: 4096, count: 8192))
    #expect(host.perform(.writeUncorrectable, 103, 1)?.status == .success)
    host.fill(0x11, count: 4 * 4096)
    let bad = host.perform(.read, 100, 4)
    #expect(bad?.status == .mediaReadError, "IO-35")
    #expect(bad?.transferredByteCount == 12288)
    #expect(host.holds(0xAB, count: 4096) && host.holds(0x11, offset: 3 * 4096))
    #expect(host.perform(.read, 4095, 2)?.status == .lbaOutOfRange)
    #expect(host.perform(.read, .max, 1)?.status == .lbaOutOfRange)
    #expect(host.perform(.read, 0, 0)?.status == .invalidField)
    #expect(host.perform(.write, 0, 64)?.status == .invalidField, "more than a transfer")
  }

  @Test("IO-13: a volume that may only be read is read, and not given for writing")
  func readOnly() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { fabric in
      [Volume(name: "r", store: try fabric.makeMemoryStore(byteCount: 65536, isReadOnly: true))]
    }
    let writer = try TestHost(unit.address("r"))
    #expect(writer.run { writer.failure != nil })
    #expect("\(writer.failure!)".contains("attach it read-only"))
    var options = RemoteVolumeQueue.Options()
    options.access = .readOnly
    for volume in ["r", "m"] {
      let reader = try TestHost(unit.address(volume), options: options)
      #expect(reader.run { reader.isAttached })
      #expect(reader.perform(.read, 0, 1)?.status == .success)
      #expect(reader.perform(.write, 0, 1)?.status == .readOnly)
      #expect(reader.perform(.flush, 0, 0)?.status == .success)
    }
  }

  @Test("A volume that is not there, and a unit that is not there, are said to be missing")
  func missing() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    let host = try TestHost(unit.address("nothing"))
    #expect(host.run { host.failure != nil })
    #expect("\(host.failure!)".contains("expected one of the volumes m, got \"nothing\""))
    let stranger = try TestHost(
      VolumeAddress(
        unit: .init(fabric: "shm", endpoint: scratch.file("none.sock")), volumeName: "m"))
    #expect(stranger.run { stranger.failure != nil })
    #expect("\(stranger.failure!)".contains("none.sock"))
    // Nothing that was submitted is forgotten.
    #expect(stranger.perform(.read, 0, 1)?.status == .aborted)
  }

  @Test("IO-36: many requests at once, more than the unit has elements and buffers, all end")
  func manyAtOnce() throws {
    let scratch = try Scratch()
    var unitOptions = IOUnitServer.Options()
    unitOptions.readElementCount = 4
    unitOptions.bufferCount = 4
    unitOptions.portDepth = 8
    let unit = try TestUnit(scratch, options: unitOptions) { _ in
      let base = try MemoryStore(byteCount: 1 << 22)
      return [
        Volume(
          name: "slow",
          store: FaultStore(over: base, plan: FaultPlan(delays: [.init(.microseconds(200))])))
      ]
    }
    for volume in ["m", "slow"] {
      let host = try TestHost(unit.address(volume))
      #expect(host.run { host.isAttached })
      var submitted = 0
      var written = 0
      while written < 1000 {
        while submitted < 1000, host.queue.freeCount > 0 {
          let isWrite = submitted % 2 == 0
          host.queue.submit(
            RemoteRequest(
              isWrite ? .write : .read, block: UInt64(submitted % 1000), blockCount: 1,
              region: host.region, offset: submitted % 256 * 4096, byteCount: 4096,
              tag: UInt64(submitted)))
          submitted += 1
        }
        host.queue.flushSubmissions()
        guard
          host.run(until: {
            host.ends.count > written || submitted < 1000 && host.queue.freeCount > 0
          })
        else { break }
        written = host.ends.count
      }
      #expect(host.ends.count == 1000)
      #expect(Set(host.ends.map(\.tag)).count == 1000)
      #expect(host.ends.allSatisfy { $0.status == .success })
    }
    let limit = MonotonicTime.now + .seconds(2)
    while unit.server.freeReadElementCount < 4, MonotonicTime.now < limit {}
    #expect(unit.server.freeReadElementCount == 4)
  }

  @Test("A host that does not take its data leaves elements for the others")
  func slowHost() throws {
    let scratch = try Scratch()
    var unitOptions = IOUnitServer.Options()
    unitOptions.readElementCount = 8
    let unit = try TestUnit(scratch, options: unitOptions) { _ in
      let base = try MemoryStore(byteCount: 1 << 22)
      // Not read where it lies: by way of elements.
      return [
        Volume(
          name: "slow",
          store: FaultStore(over: base, plan: FaultPlan(delays: [.init(.microseconds(1))])))
      ]
    }
    let idle = try TestHost(unit.address("slow"))
    #expect(idle.run { idle.isAttached })
    for index in 0..<32 {
      idle.queue.submit(
        RemoteRequest(
          .read, block: UInt64(index), blockCount: 1, region: idle.region, offset: index * 4096,
          byteCount: 4096, tag: UInt64(index)))
    }
    idle.queue.flushSubmissions()
    // Nobody polls for it any more: what the unit has for it stays under way.
    let limit = MonotonicTime.now + .seconds(5)
    while unit.server.freeReadElementCount == 8, MonotonicTime.now < limit {}
    let host = try TestHost(unit.address("slow"))
    #expect(host.run { host.isAttached })
    for block in 0..<100 { #expect(host.perform(.read, UInt64(block), 1)?.status == .success) }
    #expect(unit.server.freeReadElementCount < 8, "the first host's are still under way")
    #expect(idle.run { idle.ends.count == 32 })
  }

  @Test("A unit that sleeps is woken by its disk: requests one by one take no time-outs")
  func wakes() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let store = try FileStore.open(
        path: scratch.file("f.img"), options: .init(byteCountIfMissing: 1 << 24))
      return [Volume(name: "f", store: store)]
    }
    let host = try TestHost(unit.address("f"))
    #expect(host.run { host.isAttached })
    let start = MonotonicTime.now
    for index in 0..<200 { #expect(host.perform(.write, UInt64(index), 1)?.status == .success) }
    // A time-out of the service is half a second.
    #expect(MonotonicTime.now.nanoseconds(since: start) < 5_000_000_000)
  }

  @Test("Hosts that come and go leave nothing with the unit")
  func comeAndGo() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    for _ in 0..<300 {
      let host = try TestHost(unit.address("m"), byteCount: 4096)
      #expect(host.run { host.isAttached })
      #expect(host.perform(.read, 0, 1)?.status == .success)
    }
    let limit = MonotonicTime.now + .seconds(2)
    while unit.server.connectionCount > 0, MonotonicTime.now < limit {}
    #expect(unit.server.connectionCount == 0)
  }
}
