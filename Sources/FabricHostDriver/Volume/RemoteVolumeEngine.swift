import FabricBounded
import FabricCompletion
import FabricMessaging
import FabricStorage
import FabricVerbs
import Synchronization

/// Cuts an async volume's requests into commands. Confined to the service's thread, except for
/// `makeBuffer`.
final class RemoteVolumeEngine: VolumeRequestSink, @unchecked Sendable {
  /// A request of the user.
  final class Job: @unchecked Sendable {
    let operation: BlockOperation
    let block: UInt64
    let count: UInt64
    let buffer: VolumeBuffer?
    let offset: Int
    let flags: BlockFlags
    let continuation: CheckedContinuation<Result<Void, RemoteVolumeError>, Never>
    /// Blocks handed to the queue.
    var submitted: UInt64 = 0
    var isSubmitted = false
    var inFlightCount = 0
    var failure: RemoteVolumeError?

    init(
      _ operation: BlockOperation, block: UInt64, count: UInt64, buffer: VolumeBuffer?,
      offset: Int, flags: BlockFlags,
      _ continuation: CheckedContinuation<Result<Void, RemoteVolumeError>, Never>
    ) {
      self.operation = operation
      self.block = block
      self.count = count
      self.buffer = buffer
      self.offset = offset
      self.flags = flags
      self.continuation = continuation
    }
  }

  private let queue: any VolumeRequestQueue
  private let relay: Relay
  private let protectionDomain: any ProtectionDomain
  private var attached: ((Result<RemoteVolumeInfo, RemoteVolumeError>) -> Void)?
  /// Jobs with something to submit, in order.
  private var waiting: [Job] = []
  /// For each command in flight its job and blocks.
  private var commands: [(job: Job, block: UInt64, count: UInt64)?]
  private let freeCommands: IndexPool

  /// - Parameters:
  ///   - depth: the most requests that the queue takes at once.
  ///   - makeQueue: makes the queue; what it tells goes to the sink, which is not to be kept alive.
  init(
    depth: Int,
    makeQueue: (any VolumeRequestSink) throws(ChannelOpenError) -> any VolumeRequestQueue
  ) throws(ChannelOpenError) {
    commands = Array(repeating: nil, count: depth)
    freeCommands = IndexPool(capacity: depth)
    relay = Relay()
    queue = try makeQueue(relay)
    protectionDomain = queue.memoryDomain
    relay.engine = self
  }

  func makeBuffer(byteCount: Int) throws(RemoteVolumeError) -> VolumeBuffer {
    do throws(RegistrationError) {
      let region = try protectionDomain.allocate(
        byteCount: byteCount, access: [.localWrite, .remoteWrite])
      return VolumeBuffer(region, of: protectionDomain)
    } catch {
      throw .resource(error.description)
    }
  }

  func attach(_ attached: @escaping (Result<RemoteVolumeInfo, RemoteVolumeError>) -> Void) {
    self.attached = attached
    queue.attach()
  }

  func begin(_ job: Job) {
    waiting.append(job)
    submitWaiting()
    queue.flushSubmissions()
  }

  func close() {
    queue.close()
    let jobs = waiting
    waiting = []
    for job in jobs where job.inFlightCount == 0 {
      job.continuation.resume(returning: .failure(.closed))
    }
  }

  // MARK: Submission

  private func submitWaiting() {
    while let job = waiting.first {
      guard submit(job) else { return }
      waiting.removeFirst()
      endIfDone(job)
    }
  }

  /// Submits what is left of a job. False when the queue is full.
  private func submit(_ job: Job) -> Bool {
    guard let info = queue.info else { return false }
    let largest =
      job.buffer == nil
      ? 1 << 20 : UInt64(info.maximumTransferByteCount) / UInt64(info.blockByteCount)
    while !job.isSubmitted, job.failure == nil {
      guard queue.freeCount > 0, let tag = freeCommands.take() else { return false }
      let count = min(job.count - job.submitted, largest)
      let block = job.block &+ job.submitted
      var request = RemoteRequest(
        job.operation, block: block, blockCount: UInt32(count), tag: UInt64(tag),
        flags: job.flags)
      if let buffer = job.buffer {
        request = RemoteRequest(
          job.operation, block: block, blockCount: UInt32(count), region: buffer.region,
          offset: job.offset + Int(job.submitted) * Int(info.blockByteCount),
          byteCount: Int(count) * Int(info.blockByteCount), tag: UInt64(tag), flags: job.flags)
      }
      commands[tag] = (job, block, count)
      guard queue.submit(request) else {
        commands[tag] = nil
        freeCommands.give(tag)
        job.failure = .closed
        return true
      }
      job.inFlightCount += 1
      job.submitted += count
      job.isSubmitted = job.submitted == job.count
    }
    return true
  }

  private func endIfDone(_ job: Job) {
    guard job.inFlightCount == 0, job.isSubmitted || job.failure != nil else { return }
    job.continuation.resume(returning: job.failure.map { .failure($0) } ?? .success(()))
  }

  // MARK: Ends

  func completed(_ completions: Span<BlockCompletion>) {
    for index in completions.indices {
      let completion = completions[index]
      guard let (job, block, count) = commands[Int(completion.tag)] else { continue }
      commands[Int(completion.tag)] = nil
      freeCommands.give(Int(completion.tag))
      job.inFlightCount -= 1
      if completion.status != .success, job.failure == nil {
        job.failure =
          switch queue.state {
          case .failed(let error): error
          case .closed: .closed
          case .attached where completion.status == .aborted && queue.abortReason != nil:
            queue.abortReason
          default:
            .failed(job.operation, block: block, blockCount: count, status: completion.status)
          }
      }
      // A job that is waiting ends when it leaves the line.
      if !waiting.contains(where: { $0 === job }) { endIfDone(job) }
    }
    submitWaiting()
    queue.flushSubmissions()
  }

  func changed(_ state: RemoteVolumeQueue.State) {
    switch state {
    case .attached(let info): report(.success(info))
    case .failed(let error): report(.failure(error))
    case .connecting, .closed: break
    }
  }

  private func report(_ result: Result<RemoteVolumeInfo, RemoteVolumeError>) {
    let attached = self.attached
    self.attached = nil
    attached?(result)
  }
}

/// Hears of a queue for its engine, which keeps both.
private final class Relay: VolumeRequestSink {
  weak var engine: RemoteVolumeEngine?

  func completed(_ completions: Span<BlockCompletion>) { engine?.completed(completions) }
  func changed(_ state: RemoteVolumeQueue.State) { engine?.changed(state) }
}

/// Hears of a queue of our own protocol for a sink.
final class RemoteVolumeRelay: RemoteVolumeHandler {
  private let sink: any VolumeRequestSink

  init(_ sink: any VolumeRequestSink) { self.sink = sink }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    sink.completed(completions)
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    sink.changed(state)
  }
}
