import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Foundation
import TestSupport
import Testing

@Suite("Many hosts on one unit", .untilStuck)
struct ManyHostsTests {
  @Test("CS-16: a unit with 100 idle hosts uses under 1 % of a processor")
  func hundredHosts() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=1MiB")
    let hosts = try Hosts(of: place, count: 100)
    #expect(hosts.run(.seconds(60), until: hosts.areAttached), "\(hosts.states)")
    // Two beats of every channel, seen to pass by both sides' clocks.
    let files = ProcessFiles(of: unit.processIdentifier)
    let before = try files.processorSeconds()
    let start = MonotonicTime.now
    hosts.run(.seconds(5), until: { false })
    let elapsed = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    let used = try files.processorSeconds() - before
    #expect(used / elapsed < 0.01, "\(used) s of \(elapsed) s")
    #expect(hosts.areAttached())
    hosts.close()
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("SM-6: 1,000 hosts come and go, and nothing of them is left with the unit")
  func thousandHosts() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=1MiB")
    // The first ones make the unit's buffers grow to what it needs.
    for _ in 0..<2 { try comeAndGo(50, place) }
    let before = try Holdings(of: unit.processIdentifier)
    for _ in 0..<20 { try comeAndGo(50, place) }
    // The last ones' end may still be on its way.
    let deadline = MonotonicTime.now + .seconds(10)
    var after = try Holdings(of: unit.processIdentifier)
    while (after.descriptorCount > before.descriptorCount || after.mapCount > before.mapCount)
      && MonotonicTime.now < deadline
    {
      SystemThread.yield()
      after = try Holdings(of: unit.processIdentifier)
    }
    #expect(after.descriptorCount <= before.descriptorCount)
    #expect(after.mapCount <= before.mapCount + 2, "the heap may have grown by a mapping")
    // Random keys reach every page of their tables in time: 1.4 MiB.
    #expect(after.residentByteCount <= before.residentByteCount + 6 << 20)
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("SM-49: a unit without a descriptor left waits for one, at no cost, and then goes on")
  func noDescriptorLeft() throws {
    let place = try Place()
    let unit = try Tool(
      shell: "ulimit -n 60; exec $bin/iounit serve --listen shm:\(place.file("u.sock")) "
        + "--volume m=memory,size=1MiB")
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    let files = ProcessFiles(of: unit.processIdentifier)
    var silent = try (0..<100).map { _ in try SequencedSocket.connect(to: place.file("u.sock")) }
    let deadline = MonotonicTime.now + .seconds(10)
    while try files.descriptors().count < 60 && MonotonicTime.now < deadline {
      SystemThread.yield()
    }
    let before = try files.processorSeconds()
    // Lasts until the silent ones are turned away, which is 5 s after they came.
    let info = try Tool("iohost", ["info", place.url("m"), "--timeout", "30"])
    #expect(info.waitForEnd() == 0, "\(info.errors)")
    #expect(try files.processorSeconds() - before < 1, "of 5 s or so")
    silent.removeAll()
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  private func comeAndGo(_ count: Int, _ place: Place) throws {
    let hosts = try Hosts(of: place, count: count)
    #expect(hosts.run(.seconds(60), until: hosts.areAttached), "\(hosts.states)")
    hosts.close()
  }
}

/// How much a process has of the system.
private struct Holdings {
  let descriptorCount: Int
  let mapCount: Int
  let residentByteCount: Int

  init(of process: Int32) throws {
    let files = ProcessFiles(of: process)
    descriptorCount = try files.descriptors().count
    mapCount = try files.maps().count
    residentByteCount = try files.residentByteCount()
  }
}

/// Hosts of this process that are attached to the volume `m` and do nothing.
private final class Hosts: RemoteVolumeHandler {
  private let service: CompletionService
  private var queues: [RemoteVolumeQueue] = []

  init(of place: Place, count: Int) throws {
    let address = VolumeAddress(
      unit: FabricAddress(fabric: "shm", endpoint: place.file("u.sock")), volumeName: "m")
    service = try CompletionService()
    let adapter = try SharedMemoryAdapter()
    var options = RemoteVolumeQueue.Options()
    options.access = .readOnly
    options.depth = 4
    for _ in 0..<count {
      let queue = try RemoteVolumeQueue(
        address, adapter: adapter, service: service, options: options, handler: self)
      queues.append(queue)
      queue.attach()
    }
  }

  func areAttached() -> Bool {
    queues.allSatisfy { if case .attached = $0.state { true } else { false } }
  }

  var states: [String] { queues.map { "\($0.state)" } }

  @discardableResult
  func run(_ limit: Duration, until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  func close() {
    for queue in queues { queue.close() }
    service.turn()
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {}
  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {}
}
