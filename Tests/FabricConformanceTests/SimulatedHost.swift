import FabricCompletion
import FabricConformance
import FabricIOProtocol
import FabricMessaging
import FabricSimulated
import FabricStorage
import FabricVerbs

@testable import FabricHostDriver

/// How a host is made.
struct HostMaking {
  var options = RemoteVolumeQueue.Options()
  /// Whether it waits for its fences.
  var fences = true

  init(key: (any ChannelKey)?) {
    options.hostName = "judged"
    options.key = key
    options.depth = 16
    options.turnLength = 1
    options.backoff = Backoff(first: .milliseconds(1), longest: .milliseconds(20))
  }
}

/// A host that writes and reads a few hundred times, makes a control call, and is done.
final class SimulatedHost: HostProgram, RemoteVolumeHandler {
  private static let requestCount = 300
  private static let depth = 4
  private let service: CompletionService
  private var queue: RemoteVolumeQueue!
  private let network: SimulatedNetwork
  private var submittedCount = 0
  private var endedCount = 0
  private(set) var status: Int32?

  init(
    _ network: SimulatedNetwork, _ addresses: [FabricAddress], _ volume: String,
    _ making: HostMaking
  ) throws {
    self.network = network
    service = try CompletionService()
    queue = try RemoteVolumeQueue(
      addresses.map { VolumeAddress(unit: $0, volumeName: volume) },
      adapters: [network.makeAdapter(name: "host")], service: service, options: making.options,
      handler: self)
    queue.fencesBeforeResubmit = making.fences
    region = try queue.allocate(byteCount: Self.depth * 4096)
    queue.attach()
    queue.control(ControlCall(.identify)) { _ in }
  }

  private var region: MemoryRegion!

  func turn() {
    service.turn()
    guard status == nil else { return }
    if endedCount == Self.requestCount { return finish(0) }
    guard submittedCount < Self.requestCount, submittedCount - endedCount < Self.depth else {
      return
    }
    let index = submittedCount % Self.depth
    queue.submit(
      RemoteRequest(
        submittedCount / Self.depth % 2 == 0 ? .write : .read, block: UInt64(index * 8),
        blockCount: 8, region: region, offset: index * 4096, byteCount: 4096,
        tag: UInt64(submittedCount)))
    submittedCount += 1
    queue.flushSubmissions()
  }

  func end() { if status == nil { finish(2) } }

  private func finish(_ code: Int32) {
    status = code
    queue.close()
    for _ in 0..<64 {
      network.step()
      service.turn()
    }
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    endedCount += completions.count
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    if case .failed = state { status = 1 }
  }
}
