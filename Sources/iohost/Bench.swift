import ArgumentParser
import FabricCommandLine
import FabricCompletion
import FabricHostDriver
import FabricI2OHost
import FabricPlatform
import FabricStorage
import FabricVerbs
import Histogram

struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures a volume: requests per second and how long each takes.",
    discussion: """
      The patterns randwrite and write destroy what the volume holds, without asking.
      Example: iohost bench URL --pattern randread --block-size 4096 --depth 32 --seconds 3 --json
      """)

  enum Workload: String, ExpressibleByArgument, CaseIterable {
    case randread, randwrite, read, write
    var operation: BlockOperation { self == .read || self == .randread ? .read : .write }
    var isRandom: Bool { self == .randread || self == .randwrite }
  }

  @Argument(help: "The volume.") var url: String
  @Option(name: .long, help: "randread, randwrite, read or write.")
  var pattern = Workload.randread
  @Option(
    name: .customLong("block-size"),
    help: "Bytes of a request, such as 4096 or 64KiB: a multiple of the block.")
  var blockSizeText = "4096"
  @Option(
    name: .long, parsing: .unconditional,
    help: "Requests in flight: 1 to 1024, and no more than the unit takes.")
  var depth = 32
  @Option(name: .long, parsing: .unconditional, help: "How long to measure.") var seconds = 3.0
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (1...1024).contains(depth) else {
      throw ValidationError("expected --depth of 1 to 1024, got \(depth)")
    }
    guard seconds > 0, seconds <= 86400 else {
      throw ValidationError("expected --seconds above 0 and at most 86400, got \(seconds)")
    }
    let size: UInt64
    do { size = try ByteSize.parse(blockSizeText) } catch {
      throw ValidationError("--block-size: \(error)")
    }
    guard size > 0, size <= 1 << 30 else {
      throw ValidationError("expected --block-size above 0 and at most 1GiB, got \(blockSizeText)")
    }
  }

  /// `validate` has seen that it is one.
  var blockSize: Int { Int((try? ByteSize.parse(blockSizeText)) ?? 4096) }

  func run() async {
    await reporting {
      let address = try await connection.volumeAddress(url)
      let access: VolumeAccess = pattern.operation == .read ? .readOnly : .readWrite
      let load = try Load(
        address, adapter: try connection.adapter(for: address),
        options: try connection.options(access: access, depth: depth), bench: self)
      do { try load.run() } catch let error as RemoteVolumeError {
        throw await connection.refusal(error, wanted: access)
      }
      report(load)
      if load.errorCount > 0 {
        throw ToolFailure(
          74,
          "\(load.errorCount) of \(load.endedCount + load.errorCount) requests failed; read or write "
            + "the blocks one by one to see which")
      }
    }
  }

  private func report(_ load: Load) {
    func at(_ percentile: Double) -> Double {
      Double(load.histogram.valueAtPercentile(percentile)) / 1000
    }
    let iops = Double(load.endedCount) / load.seconds
    let rate = iops * Double(blockSize)
    if json {
      return Output.line(
        JSON.object([
          ("pattern", .text(pattern.rawValue)), ("blockSize", .whole(UInt64(blockSize))),
          ("depth", .whole(UInt64(depth))), ("seconds", .number(load.seconds)),
          ("iops", .number(iops)), ("bytesPerSecond", .number(rate)),
          (
            "latencyMicroseconds",
            .object([
              ("p50", .number(at(50))), ("p99", .number(at(99))), ("p99_9", .number(at(99.9))),
              ("max", .number(at(100))),
            ])
          ),
          ("errors", .whole(load.errorCount)),
        ]).description)
    }
    Output.line(
      "\(pattern.rawValue)  \(blockSize) bytes, \(depth) in flight: \(rounded(iops, 0)) per second, "
        + "\(describeBytes(rate))/s")
    Output.line(
      "latency  p50 \(rounded(at(50), 2)) µs, p99 \(rounded(at(99), 2)) µs, "
        + "longest \(rounded(at(100), 1)) µs; errors: \(load.errorCount)")
  }
}

/// Keeps a number of requests in flight on the hot face and counts. Confined to one thread.
final class Load: RemoteVolumeHandler, I2OVolumeHandler {
  private let service: CompletionService
  private var queue: (any VolumeRequestQueue)!
  private let bench: Bench
  // The options' wrappers cost a look-up at each reading: once is enough.
  private let operation: BlockOperation
  private let isRandom: Bool
  private let requestByteCount: Int
  private var region: MemoryRegion!
  private var started: [UInt64]
  private var blocksPerRequest: UInt64 = 1
  private var placeCount: UInt64 = 1
  private var nextPlace: UInt64 = 0
  private var random: UInt64 = 0x2545_F491_4F6C_DD1D
  private var isRunning = false
  private var startTime = MonotonicTime.now
  private var failure: RemoteVolumeError?
  private var isAttached = false
  /// The clock is read once for each batch.
  private var now: UInt64 = 0

  private(set) var histogram = Histogram<UInt32>(
    lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000_000_000,
    numberOfSignificantValueDigits: .two)
  private(set) var endedCount: UInt64 = 0
  private(set) var errorCount: UInt64 = 0
  private(set) var seconds = 0.0

  init(
    _ address: VolumeAddress, adapter: any Adapter, options: RemoteVolumeQueue.Options,
    bench: Bench
  ) throws(ToolFailure) {
    self.bench = bench
    operation = bench.pattern.operation
    isRandom = bench.pattern.isRandom
    requestByteCount = bench.blockSize
    started = Array(repeating: 0, count: bench.depth)
    do throws(ResourceError) {
      var options = CompletionService.Options()
      // Small batches: the unit works on the first requests while the next are made.
      options.budget = 8
      // The thread that was called polls.
      if let node = adapter.numaNode { MemoryNode.runCallingThread(near: node) }
      service = try CompletionService(options)
    } catch { throw ToolFailure(71, error.description) }
    do {
      queue =
        switch bench.connection.emulate {
        case .i2o:
          try I2OVolumeQueue(
            address, adapter: adapter, service: service, options: options, handler: self)
        case nil:
          try RemoteVolumeQueue(
            address, adapter: adapter, service: service, options: options, handler: self)
        }
    } catch { throw ToolFailure(71, "\(error)") }
  }

  /// Measures for as long as it was told to.
  func run() throws {
    queue.attach()
    service.run(until: { isAttached || failure != nil })
    if let failure { throw failure }
    try prepare(queue.info!)
    isRunning = true
    startTime = .now
    now = startTime.nanoseconds
    if let queue { start(on: queue) }
    queue.flushSubmissions()
    let end = startTime + .seconds(bench.seconds)
    service.run(until: { !isRunning || failure != nil }, deadline: end)
    isRunning = false
    seconds = Double(MonotonicTime.now.nanoseconds(since: startTime)) / 1e9
    // What is under way ends as all requests do: answered, or with the queue's own time-out.
    service.run(until: { queue.inFlightCount == 0 || failure != nil })
    queue.close()
    service.turn()
    if let failure { throw failure }
  }

  private func prepare(_ info: RemoteVolumeInfo) throws {
    let block = Int(info.blockByteCount)
    guard requestByteCount % block == 0, requestByteCount <= info.maximumTransferByteCount else {
      throw ToolFailure(
        64,
        "expected --block-size of whole blocks of \(block) bytes, at most "
          + "\(info.maximumTransferByteCount), got \(requestByteCount)")
    }
    guard bench.depth <= info.depth else {
      throw ToolFailure(
        64,
        "expected --depth of at most \(info.depth), which the unit takes from one connection, "
          + "got \(bench.depth); to allow more, start the unit with --depth \(bench.depth)")
    }
    do {
      region = try queue.allocate(byteCount: bench.depth * requestByteCount)
    } catch { throw ToolFailure(71, "\(error)") }
    blocksPerRequest = UInt64(requestByteCount / block)
    placeCount = info.blockCount / blocksPerRequest
    guard placeCount > 0 else {
      throw ToolFailure(64, "expected a volume of at least one request's size")
    }
  }

  private func start(on queue: some VolumeRequestQueue) {
    for tag in 0..<bench.depth { submit(tag, to: queue) }
  }

  @inline(__always)
  private func submit(_ tag: Int, to queue: some VolumeRequestQueue) {
    var place = nextPlace
    if isRandom {
      random ^= random << 13
      random ^= random >> 7
      random ^= random << 17
      place = random.multipliedFullWidth(by: placeCount).high
    } else {
      nextPlace = nextPlace &+ 1 == placeCount ? 0 : nextPlace &+ 1
    }
    started[tag] = now
    _ = queue.submit(
      RemoteRequest(
        operation, block: place &* blocksPerRequest, blockCount: UInt32(blocksPerRequest),
        region: region, offset: tag &* requestByteCount, byteCount: requestByteCount,
        tag: UInt64(tag)))
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    ended(completions, on: queue)
  }

  func i2oVolume(_ queue: I2OVolumeQueue, completed completions: Span<BlockCompletion>) {
    ended(completions, on: queue)
  }

  @inline(__always)
  private func ended(_ completions: Span<BlockCompletion>, on queue: some VolumeRequestQueue) {
    now = MonotonicTime.now.nanoseconds
    for index in completions.indices {
      let completion = completions[index]
      let tag = Int(completion.tag)
      // What was in flight at the end took its time as well: a stall there is not left out.
      histogram.record(now &- started[tag])
      let isGood = completion.status == .success
      if !isGood { failed(completion.status, on: queue) }
      guard isRunning else { continue }
      if isGood { endedCount &+= 1 }
      submit(tag, to: queue)
    }
  }

  /// Counts a request that failed; one without an answer in time ends the measurement.
  private func failed(_ status: BlockStatus, on queue: some VolumeRequestQueue) {
    errorCount &+= 1
    guard status == .aborted, let reason = queue.abortReason, failure == nil else { return }
    failure = reason
    isRunning = false
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    changed(state)
  }

  func i2oVolume(_ queue: I2OVolumeQueue, changed state: RemoteVolumeQueue.State) {
    changed(state)
  }

  private func changed(_ state: RemoteVolumeQueue.State) {
    switch state {
    case .attached: isAttached = true
    case .failed(let error): failure = error
    case .connecting, .closed: break
    }
  }
}
