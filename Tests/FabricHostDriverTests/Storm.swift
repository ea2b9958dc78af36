import CVirtualClock
import FabricIOProtocol
import FabricIOUnit
import FabricMessaging
import FabricSimulated
import FabricStorage
import FabricVerbs
import Glibc
import TestSupport

@testable import FabricCompletion
@testable import FabricHostDriver

/// A host and a unit in bad weather: connections break, journeys take their time, either side is killed and comes back.
/// What the volume must hold is known all the time.
///
/// All of it follows from the seed, time, too: it passes as the network's does.
final class Storm {
  static let blockCount = 6
  private static let start: UInt64 = 1_000_000_000_000

  private let seed: UInt64
  private let fences: Bool
  private let network: SimulatedNetwork
  private let store: LaggingStore
  private var random: SeededGenerator
  /// Time that has passed beside the network's, while nothing was on its way.
  private var idleNanoseconds: UInt64 = 0

  private var unit: UnitProcess
  private var host: HostProcess
  private var dead: [UnitProcess] = []
  private var deadHosts: [HostProcess] = []
  private var session = HostOpening.SessionIdentifier(high: 1, low: 2)
  private var epoch: UInt32 = 1

  /// What a block may hold: one value, or before the next read one of several.
  private var model = [Set<UInt8>](repeating: [0], count: blockCount)
  /// What is under way on a block.
  private var work = [Work?](repeating: nil, count: blockCount)
  private var nextValue = [UInt8](repeating: 1, count: blockCount)
  /// What happened, for whoever reads a failure.
  private(set) var losses = (breaks: 0, units: 0, hosts: 0)
  private(set) var endCount = 0
  /// What the volume held that it must not.
  private(set) var fault: String?

  private enum Work: Equatable {
    case write(UInt8)
    case read
  }

  /// A unit's process: what it is made of goes with it.
  private struct UnitProcess {
    let adapter: SimulatedAdapter
    let service: CompletionService
    let server: IOUnitServer
  }

  private struct HostProcess {
    let adapter: SimulatedAdapter
    let service: CompletionService
    let queue: RemoteVolumeQueue
    let region: MemoryRegion
    let recorder: Recorder
  }

  /// Two addresses of the unit: what one path has lost goes on by the other.
  private static let places = ["one", "other"].map { FabricAddress(fabric: "sim", endpoint: $0) }

  /// - Parameter fences: whether the host waits for its fences; false shows what comes of it.
  init(seed: UInt64, fences: Bool = true) throws {
    self.seed = seed
    self.fences = fences
    fabric_virtual_clock_set(Self.start)
    random = SeededGenerator(seed: seed)
    var options = SimulatedNetwork.Options()
    options.deathDetection = .milliseconds(20)
    network = SimulatedNetwork(seed: seed, options: options)
    store = try LaggingStore(blockCount: UInt64(Self.blockCount))
    unit = try Self.unit(network, store)
    host = try Self.host(network, session, epoch, seed)
    host.queue.fencesBeforeResubmit = fences
  }

  deinit { fabric_virtual_clock_set(0) }

  /// Both end in order.
  func end() throws {
    for one in deadHosts + [host] {
      one.queue.close()
      for _ in 0..<64 { one.service.turn() }
    }
    for one in dead + [unit] {
      try elsewhere(
        {
          pass()
          store.land(using: &random)
          one.service.turn()
        }, wake: { one.service.wake() }
      ) { one.server.stop() }
    }
  }

  private static func unit(_ network: SimulatedNetwork, _ store: LaggingStore) throws -> UnitProcess
  {
    let layer = CommonLayer()
    try layer.add(
      Volume(name: "disk", store: store, identifier: VolumeIdentifier(high: 3, low: 4)))
    let adapter = network.makeAdapter(name: "unit")
    let service = try CompletionService()
    let fabric = try UnitFabric([adapter], service: service)
    var options = IOUnitServer.Options()
    options.maximumTransferByteCount = 4096
    options.bufferCount = 8
    options.readElementCount = 16
    let server = try elsewhere({ service.turn() }, wake: { service.wake() }) { [options] in
      try IOUnitServer(layer: layer, fabric: fabric, addresses: places, options: options)
    }
    // How many rounds another thread's start took is chance; the service does some things every 32nd round.
    while service.roundCount & 31 != 0 { service.turn() }
    return UnitProcess(adapter: adapter, service: service, server: server)
  }

  private static func host(
    _ network: SimulatedNetwork, _ session: HostOpening.SessionIdentifier, _ epoch: UInt32,
    _ seed: UInt64
  ) throws -> HostProcess {
    let adapter = network.makeAdapter(name: "host")
    let service = try CompletionService()
    let recorder = Recorder()
    var options = RemoteVolumeQueue.Options()
    options.isPatientAtFirst = true
    options.isPatientWithOthers = true
    options.depth = blockCount
    options.turnLength = 1
    options.session = session
    options.firstEpoch = epoch
    options.backoff = Backoff(first: .milliseconds(1), longest: .milliseconds(20))
    let queue = try RemoteVolumeQueue(
      places.map { VolumeAddress(unit: $0, volumeName: "disk") }, adapters: [adapter],
      service: service,
      options: options, handler: recorder)
    queue.chance = WaitChance(SeededGenerator(seed: seed ^ UInt64(epoch)))
    let region = try queue.allocate(byteCount: blockCount * 4096)
    queue.attach()
    return HostProcess(
      adapter: adapter, service: service, queue: queue, region: region, recorder: recorder)
  }

  // MARK: Weather

  /// Lets one thing happen, and whoever lives do what there is to do.
  func turn() {
    pass()
    unit.service.turn()
    host.service.turn()
    takeEnds()
  }

  private func pass() {
    // Where nothing is on its way, time passes until somebody has waited enough.
    if !network.step() { idleNanoseconds += 200_000 }
    let (seconds, attoseconds) = network.now.components
    fabric_virtual_clock_set(
      Self.start + idleNanoseconds + UInt64(seconds) * 1_000_000_000
        + UInt64(attoseconds / 1_000_000_000))
  }

  /// Something happens by chance: mostly work.
  func act() throws {
    switch Int.random(in: 0..<200, using: &random) {
    case 0..<60: write()
    case 60..<90: read()
    case 90..<120: store.land(using: &random)
    case 120..<128: breakConnection()
    case 128: network.options.maximumDelay = .microseconds(Int.random(in: 1...3000, using: &random))
    case 129 where Bool.random(using: &random): try restartUnit()
    case 130 where Bool.random(using: &random): try restartHost()
    default: break
    }
  }

  private func breakConnection() {
    let proven = host.queue.paths.paths.filter(\.isProven)
    guard let channel = proven.randomElement(using: &random)?.channel else { return }
    network.breakConnection(of: channel.fabricQueuePair)
    losses.breaks += 1
  }

  /// The unit's process dies; what it had handed to the kernel is done before another has the volume's lock.
  private func restartUnit() throws {
    network.kill(unit.adapter)
    dead.append(unit)
    while store.waitingCount > 0 { store.land(using: &random) }
    unit = try Self.unit(network, store)
    losses.units += 1
  }

  /// The host's process dies; the next has its session, with a greater epoch, and knows nothing of what was under way.
  private func restartHost() throws {
    takeEnds()
    network.kill(host.adapter)
    for block in 0..<Self.blockCount {
      if case .write(let value) = work[block] { model[block].insert(value) }
      work[block] = nil
    }
    deadHosts.append(host)
    epoch = host.queue.epoch + 1
    host = try Self.host(network, session, epoch, seed)
    host.queue.fencesBeforeResubmit = fences
    losses.hosts += 1
  }

  // MARK: Work

  /// One request at most is under way on a block, so that what it must hold is known.
  private func freeBlock() -> Int? {
    (0..<Self.blockCount).filter { work[$0] == nil }.randomElement(using: &random)
  }

  private func write() {
    guard let block = freeBlock(), nextValue[block] < 250 else { return }
    let value = nextValue[block]
    nextValue[block] += 1
    work[block] = .write(value)
    fill(block, value)
    submit(.write, block)
  }

  private func read() {
    guard let block = freeBlock() else { return }
    read(block)
  }

  private func read(_ block: Int) {
    work[block] = .read
    fill(block, 0xFF)
    submit(.read, block)
  }

  private func fill(_ block: Int, _ value: UInt8) {
    unsafe memset(host.region.bytes.baseAddress! + block * 4096, CInt(value), 4096)
  }

  /// What was read: the first byte, and whether all are like it.
  private func content(of block: Int) -> (value: UInt8, isWhole: Bool) {
    let bytes = unsafe host.region.bytes.baseAddress! + block * 4096
    return unsafe (
      bytes.load(as: UInt8.self), memcmp(bytes, bytes + 1, 4095) == 0
    )
  }

  private func submit(_ operation: BlockOperation, _ block: Int) {
    host.queue.submit(
      RemoteRequest(
        operation, block: UInt64(block), blockCount: 1, region: host.region,
        offset: block * 4096, byteCount: 4096, tag: UInt64(block)))
    host.queue.flushSubmissions()
  }

  private func takeEnds() {
    for end in host.recorder.ends { take(end) }
    host.recorder.ends = []
  }

  private func take(_ end: BlockCompletion) {
    let block = Int(end.tag)
    endCount += 1
    guard end.status == .success else {
      fault = fault ?? "block \(block): \(end)"
      return
    }
    switch work[block] {
    case .write(let value): model[block] = [value]
    case .read:
      let (value, isWhole) = content(of: block)
      if !isWhole || !model[block].contains(value) {
        fault =
          fault
          ?? "block \(block) held \(value)\(isWhole ? "" : " and others"), expected one of \(model[block].sorted())"
      }
      model[block] = [value]
    case nil: fault = fault ?? "block \(block): an end of nothing"
    }
    work[block] = nil
  }

  // MARK: The whole

  /// Bad weather for so many turns, then good weather until all work has ended, and each block read.
  func run(turnCount: Int) throws {
    for _ in 0..<turnCount where fault == nil {
      try act()
      turn()
    }
    settle()
    for block in 0..<Self.blockCount where fault == nil { read(block) }
    settle()
    if fault == nil, work.contains(where: { $0 != nil }) { fault = "requests never end: \(work)" }
  }

  private func settle() {
    for _ in 0..<100_000 where fault == nil && work.contains(where: { $0 != nil }) {
      store.land(using: &random)
      turn()
    }
  }
}
