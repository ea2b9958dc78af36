import FabricCompletion
import FabricHostDriver
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs

/// Hosts of this process, all at one volume. They share the memory that they read to: hosts by the
/// hundred are machines of their own, and it is the unit that is measured.
final class ReadingHosts: RemoteVolumeHandler {
  static let blockByteCount = 4096
  /// Hosts in their set-up at once: fewer than a listener lets one address have.
  private static let window = 128

  private let service: CompletionService
  /// Of all hosts: a look at it costs what those cost that have something.
  private let endpoint: ChannelEndpoint
  private let address: VolumeAddress
  private let depth: Int
  private let blockCount: Int
  private var queues: [RemoteVolumeQueue] = []
  private var region: MemoryRegion?
  private var attachedCount = 0
  private var endedCount = 0
  private var failure: String?
  /// Requests follow each other until this is false.
  private var goesOn = false
  private var inFlightCount = 0
  private var random: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// - Parameters:
  ///   - depth: the most requests in flight of one host.
  ///   - blockCount: of the volume.
  init(
    endpoint: String, depth: Int, checksums: TCPOptions.Checksums, blockCount: Int
  ) throws {
    var options = TCPOptions()
    options.checksums = checksums
    service = try CompletionService()
    self.endpoint = try ChannelEndpoint(adapter: try TCPAdapter(options), service: service)
    address = VolumeAddress(
      unit: FabricAddress(fabric: "tcp", endpoint: endpoint), volumeName: "memory")
    self.depth = depth
    self.blockCount = blockCount
  }

  /// Attaches so many more, and returns when requests may come from all.
  func attach(_ count: Int, within limit: Duration) throws {
    var options = RemoteVolumeQueue.Options()
    options.depth = depth
    let end = queues.count + count
    let deadline = MonotonicTime.now + limit
    while attachedCount < end {
      while queues.count < end, queues.count - attachedCount < Self.window {
        let queue = RemoteVolumeQueue(address, endpoint: endpoint, options: options, handler: self)
        if region == nil { region = try queue.allocate(byteCount: depth * Self.blockByteCount) }
        queues.append(queue)
        queue.attach()
      }
      let least = min(end, attachedCount + Self.window / 4)
      try run(until: deadline) { self.attachedCount >= least }
    }
  }

  /// Writes every block of the volume, by the first host.
  func fill(within limit: Duration) throws {
    let deadline = MonotonicTime.now + limit
    for block in 0..<UInt64(blockCount) {
      while queues[0].freeCount == 0 {
        let before = endedCount
        try run(until: deadline) { self.endedCount > before }
      }
      submit(.write, block: block, over: queues[0], slot: 0)
      queues[0].flushSubmissions()
    }
    try run(until: deadline) { self.inFlightCount == 0 }
  }

  /// One block by every host.
  func readOnce(within limit: Duration) throws {
    start(depth: 1)
    try run(until: .now + limit) { self.inFlightCount == 0 }
  }

  /// Reads a second of all hosts, each with `depth` in flight.
  func rate(depth: Int, seconds: Double) throws -> Double {
    goesOn = true
    start(depth: depth)
    try runFor(seconds / 10)
    let before = endedCount
    let begin = MonotonicTime.now
    try runFor(seconds)
    let elapsed = Double(MonotonicTime.now.nanoseconds(since: begin)) / 1e9
    let count = endedCount - before
    goesOn = false
    try run(until: .now + .seconds(30)) { self.inFlightCount == 0 }
    return Double(count) / elapsed
  }

  func close() {
    for queue in queues { queue.close() }
    endpoint.close()
    service.turn()
  }

  // MARK: Requests

  private func start(depth: Int) {
    for queue in queues {
      for slot in 0..<depth { submit(.read, block: nextBlock(), over: queue, slot: slot) }
      queue.flushSubmissions()
    }
  }

  /// - Parameter slot: the part of the memory that the block's bytes lie in.
  private func submit(
    _ operation: BlockOperation, block: UInt64, over queue: RemoteVolumeQueue, slot: Int
  ) {
    guard let region else { return }
    let request = RemoteRequest(
      operation, block: block, blockCount: 1, region: region,
      offset: slot * Self.blockByteCount, byteCount: Self.blockByteCount,
      tag: UInt64(slot), flags: [])
    if queue.submit(request) {
      inFlightCount += 1
    } else {
      failure = "a host had no room for a request"
    }
  }

  /// xorshift64: any block, at no cost.
  private func nextBlock() -> UInt64 {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    return random % UInt64(blockCount)
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    for index in completions.indices {
      let completion = completions[index]
      if completion.status != .success { failure = "a request ended with \(completion.status)" }
      inFlightCount -= 1
      if goesOn && failure == nil {
        submit(.read, block: nextBlock(), over: queue, slot: Int(completion.tag))
      }
    }
    endedCount += completions.count
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    switch state {
    case .attached: attachedCount += 1
    case .connecting: failure = "a host lost its connection"
    case .failed(let error): failure = error.description
    case .closed: break
    }
  }

  // MARK: Running

  private func runFor(_ seconds: Double) throws {
    service.run(until: { self.failure != nil }, deadline: .now + .seconds(seconds))
    if let failure { throw Failure(failure) }
  }

  private func run(until deadline: MonotonicTime, _ condition: () -> Bool) throws {
    service.run(until: { condition() || self.failure != nil }, deadline: deadline)
    if let failure { throw Failure(failure) }
    guard condition() else {
      throw Failure(
        "\(attachedCount) of \(queues.count) hosts are attached, \(inFlightCount) requests under "
          + "way: the time for it is over")
    }
  }
}
