import FabricCompletion
import FabricHostDriver
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import Foundation
import TestSupport
import Testing

@Suite("Many connections over TCP", .serialized, .untilStuck)
struct ManyConnectionsTests {
  /// In every run so many as a debug build keeps alive beside other tests; with FABRIC_MANY=1, and
  /// the machine to itself, 1,000.
  private static let count =
    ProcessInfo.processInfo.environment["FABRIC_MANY"] == nil ? 300 : 1000
  /// Not a bound for how fast it is to be: others may use the machine as well.
  private static let patience: Duration = .seconds(120)

  @Test("many hosts at once are all served, and nothing of them is left with the unit")
  func many() throws {
    let limit = try Self.raiseLimit()
    let needed = 100 + 10 * Self.count
    try #require(limit >= needed, "\(needed) descriptors are needed, \(limit) allowed: ulimit -Hn")
    let tcp = try TCPPlace()
    let unit = try tcp.serve("m=memory,size=16MiB")
    let files = ProcessFiles(of: unit.processIdentifier)
    let before = try files.descriptors().count
    let memory = try files.residentByteCount()
    let hosts = try ManyHosts(port: tcp.port)
    // So many at a time as an address may have in their start-up.
    for _ in 0..<Self.count / 100 {
      try hosts.add(100)
      #expect(hosts.run(Self.patience) { hosts.attachedCount == hosts.queues.count })
    }
    #expect(hosts.attachedCount == Self.count)
    let grown = try files.residentByteCount() - memory
    #expect(grown / Self.count < 72 << 10, "\(grown / Self.count) bytes of the unit each")
    for round in 1...3 {
      hosts.submit(round.isMultiple(of: 2) ? .write : .read)
      #expect(hosts.run(Self.patience) { hosts.endedCount == round * Self.count })
    }
    #expect(hosts.failedCount == 0 && hosts.attachedCount == Self.count)
    hosts.close()
    // Ends in order take both sides; a look at the unit's descriptors takes longer than a round.
    let deadline = MonotonicTime.now + Self.patience
    var left = try files.descriptors().count
    while left > before && MonotonicTime.now < deadline {
      _ = hosts.run(.milliseconds(100)) { false }
      left = try files.descriptors().count
    }
    #expect(left <= before)
    #expect(!unit.errors.contains { $0.contains("refused") })
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  /// As many descriptors as this process, and what it starts, may have.
  private static func raiseLimit() throws -> UInt {
    var limit = rlimit()
    let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    try #require(unsafe getrlimit(kind, &limit) == 0)
    limit.rlim_cur = limit.rlim_max
    try #require(unsafe setrlimit(kind, &limit) == 0)
    return UInt(limit.rlim_max)
  }
}

/// Hosts of this process, with one block's memory each.
private final class ManyHosts: RemoteVolumeHandler {
  private let service: CompletionService
  private let endpoint: ChannelEndpoint
  private let address: VolumeAddress
  private(set) var queues: [RemoteVolumeQueue] = []
  private var regions: [MemoryRegion] = []
  private(set) var attachedCount = 0
  private(set) var endedCount = 0
  private(set) var failedCount = 0

  init(port: Int) throws {
    service = try CompletionService()
    endpoint = try ChannelEndpoint(adapter: TCPAdapter(), service: service)
    address = VolumeAddress(
      unit: FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:\(port)"), volumeName: "m")
  }

  func add(_ count: Int) throws {
    var options = RemoteVolumeQueue.Options()
    options.depth = 4
    for _ in 0..<count {
      let queue = RemoteVolumeQueue(
        address, endpoint: endpoint, options: options, handler: self)
      regions.append(try queue.allocate(byteCount: 4096))
      queues.append(queue)
      queue.attach()
    }
  }

  /// One block of each host, its own.
  func submit(_ operation: FabricStorage.BlockOperation) {
    for (index, queue) in queues.enumerated() {
      let request = RemoteRequest(
        operation, block: UInt64(index), blockCount: 1, region: regions[index], offset: 0,
        byteCount: 4096, tag: UInt64(index), flags: [])
      if !queue.submit(request) { failedCount += 1 }
      queue.flushSubmissions()
    }
  }

  func run(_ limit: Duration, until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  func close() {
    for queue in queues { queue.close() }
    endpoint.close()
    service.turn()
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    for index in completions.indices where completions[index].status != .success {
      failedCount += 1
    }
    endedCount += completions.count
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    switch state {
    case .attached: attachedCount += 1
    case .connecting, .failed: failedCount += 1
    case .closed: break
    }
  }
}
