import FabricCompletion
import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricTCP
import FabricVerbs
import TestSupport
import Testing

/// A unit in this process at a socket and at two TCP addresses, and a host with a path to each.
final class ManyPlaces {
  let scratch: Scratch
  let layer = CommonLayer()
  let server: IOUnitServer
  let service: CompletionService
  private(set) var queue: RemoteVolumeQueue!
  let region: MemoryRegion
  let recorder = Recorder()

  init(
    delays: [Duration] = [.zero, .zero, .zero], states: [PathState] = [],
    policy: PathPolicy = .roundRobin, isFile: Bool = false
  ) throws {
    scratch = try Scratch()
    let fabric = try UnitFabric([SharedMemoryAdapter(), TCPAdapter()])
    let store: any Store =
      try isFile
      ? FileStore.open(path: scratch.file("v.img"), options: .init(byteCountIfMissing: 1 << 24))
      : fabric.makeMemoryStore(byteCount: 1 << 24)
    try layer.add(Volume(name: "v", store: store))
    let addresses = [
      FabricAddress(fabric: "shm", endpoint: scratch.file("unit.sock")),
      FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"),
      FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"),
    ]
    server = try IOUnitServer(
      layer: layer, fabric: fabric,
      places: addresses.enumerated().map { index, address in
        ListeningPlace(
          address, state: index < states.count ? states[index] : .optimised, delay: delays[index])
      })
    service = try CompletionService()
    var options = RemoteVolumeQueue.Options()
    options.policy = policy
    options.depth = 64
    options.turnLength = 1
    queue = try RemoteVolumeQueue(
      server.addresses.map { VolumeAddress(unit: $0, volumeName: "v") },
      adapters: [TCPAdapter(), SharedMemoryAdapter()], service: service, options: options,
      handler: recorder)
    region = try queue.allocate(byteCount: 1 << 20)
    queue.attach()
  }

  deinit {
    queue.close()
    service.turn()
    server.stop()
  }

  @discardableResult
  func run(_ limit: Duration = .seconds(20), until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  var readyCount: Int { queue.pathReports.count { $0.state == .ready } }

  /// Moves each of 64 blocks, all at once.
  func moveAll(_ operation: BlockOperation) {
    recorder.ends.removeAll()
    for block in 0..<64 {
      queue.submit(
        RemoteRequest(
          operation, block: UInt64(block), blockCount: 1, region: region, offset: block * 4096,
          byteCount: 4096, tag: UInt64(block)))
    }
    queue.flushSubmissions()
    run { recorder.ends.count == 64 }
    #expect(recorder.ends.count(where: { $0.status == .success }) == 64)
  }
}

@Suite("I/O unit: several ways to a volume", .untilStuck)
struct MultipathTests {
  @Test("One queue over shared memory and two TCP addresses: data goes by each, both ways")
  func everyWay() throws {
    for isFile in [false, true] {
      let all = try ManyPlaces(isFile: isFile)
      #expect(all.run { all.readyCount == 3 })
      for block in 0..<64 {
        for index in 0..<4096 { unsafe all.region.bytes[block * 4096 + index] = UInt8(block + 1) }
      }
      all.moveAll(.write)
      unsafe all.region.bytes.initializeMemory(as: UInt8.self, repeating: 0xFF)
      for _ in 0..<3 { all.moveAll(.read) }
      for block in 0..<64 {
        for index in stride(from: 0, to: 4096, by: 511) {
          #expect(unsafe all.region.bytes[block * 4096 + index] == UInt8(block + 1))
        }
      }
      for report in all.queue.pathReports {
        #expect(report.counters.readByteCount >= 60 * 4096, "\(report)")
        #expect(report.counters.writtenByteCount >= 20 * 4096, "\(report)")
        #expect(report.latency != nil)
      }
    }
  }

  @Test("A path slowed by 1 ms has its share by the policy")
  func slowPath() throws {
    let delays: [Duration] = [.zero, .zero, .milliseconds(1)]
    for policy in [PathPolicy.roundRobin, .queueDepth, .serviceTime, .latencyWeighted] {
      let all = try ManyPlaces(delays: delays, policy: policy)
      #expect(all.run { all.readyCount == 3 })
      for block in 0..<64 where block % 3 == 0 { unsafe all.region.bytes[block * 4096] = 1 }
      // One under way at a time would never wait for the slow one but when it is its turn: eight do.
      var sent = 0
      var ended = 0
      while ended < 3000 {
        while sent < 3000, sent - ended < 8 {
          all.queue.submit(
            RemoteRequest(
              .read, block: UInt64(sent % 64), blockCount: 1, region: all.region,
              offset: (sent % 64) * 4096, byteCount: 4096))
          sent += 1
        }
        all.queue.flushSubmissions()
        let before = all.recorder.ends.count
        #expect(all.run { all.recorder.ends.count > before })
        ended = all.recorder.ends.count
      }
      let counts = all.queue.pathReports.map(\.counters.requestCount)
      switch policy {
      case .roundRobin: #expect(counts == [1000, 1000, 1000], "\(policy): \(counts)")
      default:
        #expect(counts[2] < 850 && counts[2] > 0, "\(policy): \(counts)")
        #expect(counts[0] + counts[1] > 2150, "\(policy): \(counts)")
      }
    }
  }

  @Test("IO-60, IO-61: optimised paths first; the unit tells of a change, and requests follow")
  func pathStates() throws {
    let all = try ManyPlaces(states: [.nonOptimised], policy: .optimisedFirst)
    #expect(all.run { all.readyCount == 3 })
    #expect(
      all.queue.pathReports.map(\.accessState) == [.nonOptimised, .optimised, .optimised])
    all.moveAll(.read)
    #expect(all.queue.pathReports.map(\.counters.requestCount) == [0, 32, 32])
    for index in [1, 2] {
      #expect(all.server.setPathState(.inaccessible, at: all.server.addresses[index]))
    }
    #expect(
      all.run {
        all.queue.pathReports.map(\.accessState) == [.nonOptimised, .inaccessible, .inaccessible]
      })
    all.moveAll(.read)
    #expect(all.queue.pathReports.map(\.counters.requestCount) == [64, 32, 32])
    #expect(!all.server.setPathState(.optimised, at: FabricAddress(fabric: "tcp", endpoint: "x:1")))
  }

  @Test("IO-42, IO-43: a unit names its addresses, and the paths of a volume follow")
  func addresses() async throws {
    let all = try ManyPlaces(states: [.nonOptimised])
    let unit = VolumeAddress(unit: all.server.addresses[1], volumeName: "")
    let listing = try await VolumeDiscovery.list(unit, adapter: TCPAdapter())
    #expect(listing.addresses.map(\.address) == all.server.addresses)
    #expect(listing.addresses.map(\.state) == [.nonOptimised, .optimised, .optimised])
    let volume = VolumeAddress(unit: all.server.addresses[1], volumeName: "v")
    let paths = listing.paths(to: volume)
    #expect(paths.map(\.unit) == [1, 0, 2].map { all.server.addresses[$0] })
    #expect(paths.allSatisfy { $0.volumeName == "v" })
  }
}
