import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Foundation
import Testing

@Suite("Idle", .timeLimit(.minutes(2)))
struct IdleTests {
  @Test("CS-16: a unit with 100 idle hosts uses under 1 % of a processor")
  func hundredHosts() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=1MiB")
    let hosts = try IdleHosts(
      VolumeAddress(
        unit: FabricAddress(fabric: "shm", endpoint: place.file("u.sock")), volumeName: "m"),
      count: 100)
    #expect(hosts.run(.seconds(60), until: hosts.areAttached), "\(hosts.states)")
    // Two beats of every channel, seen to pass by both sides' clocks.
    let before = try processorSeconds(of: unit.processIdentifier)
    let start = MonotonicTime.now
    hosts.run(.seconds(5), until: { false })
    let elapsed = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    let used = try processorSeconds(of: unit.processIdentifier) - before
    print("idle: \(used) s of \(elapsed) s")
    #expect(used / elapsed < 0.01, "\(used) s of \(elapsed) s")
    #expect(hosts.areAttached())
    hosts.close()
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  private func processorSeconds(of process: Int32) throws -> Double {
    let line = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
    // The second field, the name, may hold spaces and ends with a parenthesis.
    let fields = line[line.lastIndex(of: ")")!...].split(separator: " ")
    return (Double(fields[12])! + Double(fields[13])!) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}

/// Hosts of this process that are attached and do nothing.
private final class IdleHosts: RemoteVolumeHandler {
  private let service: CompletionService
  private var queues: [RemoteVolumeQueue] = []

  init(_ address: VolumeAddress, count: Int) throws {
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
