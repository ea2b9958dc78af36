import FabricCompletion
@testable import FabricHostDriver
import FabricIOUnit
import FabricMessaging
import FabricSimulated
import FabricStorage
import FabricVerbs
import TestSupport

/// A unit with one lagging volume and several addresses, and a host with a path to each, over a
/// simulated network. One seed drives all.
final class SimulatedPaths {
  let network: SimulatedNetwork
  let service: CompletionService
  let store: LaggingStore
  let unit: IOUnitServer
  /// Another one, with another volume of the same name.
  private var stranger: IOUnitServer?
  private(set) var queue: RemoteVolumeQueue!
  let region: MemoryRegion
  let recorder = Recorder()
  var random: SeededGenerator
  static let blockCount: UInt64 = 8

  /// Turns of one request at first: so paths have to do with each other most.
  init(
    seed: UInt64, pathCount: Int, fences: Bool = true, policy: PathPolicy = .roundRobin,
    turnLength: Int = 1, strangerCount: Int = 0, absentCount: Int = 0
  ) throws {
    random = SeededGenerator(seed: seed)
    let network = SimulatedNetwork(seed: seed)
    let service = try CompletionService()
    let store = try LaggingStore(blockCount: Self.blockCount)
    self.network = network
    self.service = service
    self.store = store
    let layer = CommonLayer()
    try layer.add(Volume(name: "disk", store: store))
    let places = (0..<pathCount).map { FabricAddress(fabric: "sim", endpoint: "unit\($0)") }
    let fabric = try UnitFabric([network.makeAdapter(name: "unit")], service: service)
    var options = IOUnitServer.Options()
    options.maximumTransferByteCount = 4096
    options.bufferCount = 8
    options.readElementCount = 16
    unit = try elsewhere({ service.turn() }, wake: { service.wake() }) { [options] in
      try IOUnitServer(layer: layer, fabric: fabric, addresses: places, options: options)
    }
    let strange = (0..<strangerCount).map {
      FabricAddress(fabric: "sim", endpoint: "stranger\($0)")
    }
    let absent = (0..<absentCount).map { FabricAddress(fabric: "sim", endpoint: "absent\($0)") }
    if strangerCount > 0 {
      let other = CommonLayer()
      try other.add(Volume(name: "disk", store: LaggingStore(blockCount: Self.blockCount)))
      let fabric = try UnitFabric([network.makeAdapter(name: "stranger")], service: service)
      stranger = try elsewhere({ service.turn() }, wake: { service.wake() }) { [options] in
        try IOUnitServer(layer: other, fabric: fabric, addresses: strange, options: options)
      }
    }
    var hostOptions = RemoteVolumeQueue.Options()
    hostOptions.isPatientWithOthers = true
    hostOptions.depth = Int(Self.blockCount)
    hostOptions.policy = policy
    hostOptions.turnLength = turnLength
    queue = try RemoteVolumeQueue(
      (absent + places + strange).map { VolumeAddress(unit: $0, volumeName: "disk") },
      adapters: [network.makeAdapter(name: "host")], service: service, options: hostOptions,
      handler: recorder)
    queue.fencesBeforeResubmit = fences
    region = try queue.allocate(byteCount: Int(Self.blockCount) * 4096)
    queue.attach()
  }

  deinit {
    let (service, network, unit, store) = (service, network, unit, store)
    let stranger = stranger
    queue.close()
    var random = random
    try? elsewhere(
      {
        network.step()
        store.land(using: &random)
        service.turn()
      }, wake: { service.wake() }
    ) {
      unit.stop()
      stranger?.stop()
    }
  }

  func step() {
    network.step()
    service.turn()
  }

  /// Lets everything happen that will, until `condition` holds.
  func run(_ condition: () -> Bool) -> Bool {
    for _ in 0..<200_000 {
      if condition() { return true }
      step()
    }
    return condition()
  }

  var readyCount: Int { queue.paths.paths.count(where: \.isReady) }

  /// Takes the ends that have come.
  func takeEnds() -> [BlockCompletion] {
    defer { recorder.ends = [] }
    return recorder.ends
  }

  /// Writes a block full of `value`; the tag is the block.
  func write(_ value: UInt8, block: UInt64) {
    let offset = Int(block) * 4096
    for index in offset..<offset + 4096 { unsafe region.bytes[index] = value }
    queue.submit(
      RemoteRequest(
        .write, block: block, blockCount: 1, region: region, offset: offset, byteCount: 4096,
        tag: block))
    queue.flushSubmissions()
  }

  /// Breaks a connection that has been of use; false when there is none.
  func breakPath() -> Bool {
    let proven = queue.paths.paths.filter(\.isProven)
    guard let channel = proven.randomElement(using: &random)?.channel else { return false }
    network.breakConnection(of: channel.fabricQueuePair)
    return true
  }
}

/// Keeps what it is told.
final class Recorder: RemoteVolumeHandler {
  var ends: [BlockCompletion] = []
  /// Submits further requests, before it returns.
  var next: ((RemoteVolumeQueue) -> Void)?
  var states: [String] = []

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    for index in completions.indices { ends.append(completions[index]) }
    next?(queue)
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    states.append("\(state)")
  }
}
