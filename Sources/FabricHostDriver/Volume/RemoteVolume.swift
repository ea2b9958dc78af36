public import FabricCompletion
public import FabricMessaging
public import FabricStorage
public import FabricVerbs
import Synchronization

/// A volume on an I/O unit, for `async` code. A thread of its own does the work.
///
/// Requests of any length are cut into what the unit takes at once; those in flight together have
/// no order among each other. When the connection is lost they wait for the next one; see
/// `RemoteVolumeQueue` for what happens then, and for the face without `async`.
///
/// Threads: any. A request that has begun ends by itself: cancelling its task changes nothing.
public final class RemoteVolume: Sendable {
  public typealias Options = RemoteVolumeQueue.Options

  public let info: RemoteVolumeInfo
  private let service: CompletionService
  private let engine: RemoteVolumeEngine
  private let spare = Mutex<[VolumeBuffer]>([])
  private let isClosed = Mutex(false)

  private init(
    info: RemoteVolumeInfo, service: CompletionService, engine: RemoteVolumeEngine
  ) {
    self.info = info
    self.service = service
    self.engine = engine
  }

  /// Connects to a volume.
  ///
  /// - Throws: `RemoteVolumeError`.
  public static func attach(
    _ address: VolumeAddress, adapter: any Adapter, options: Options = .init()
  ) async throws(RemoteVolumeError) -> RemoteVolume {
    try await attach([address], adapters: [adapter], options: options)
  }

  /// Connects to a volume by several ways.
  ///
  /// - Parameters: as of `RemoteVolumeQueue`.
  /// - Throws: `RemoteVolumeError`.
  public static func attach(
    _ addresses: [VolumeAddress], adapters: [any Adapter], options: Options = .init()
  ) async throws(RemoteVolumeError) -> RemoteVolume {
    try await attach(adapter: adapters[0], depth: options.depth) {
      service, sink throws(ChannelOpenError) in
      let relay = RemoteVolumeRelay(sink)
      let queue = try RemoteVolumeQueue(
        addresses, adapters: adapters, service: service, options: options, handler: relay)
      queue.keptHandler = relay
      return queue
    }
  }

  /// Connects to a volume over a queue of another protocol.
  ///
  /// - Parameters:
  ///   - depth: the most requests that the queue takes at once.
  ///   - makeQueue: makes the queue, carried by the service given; it tells the sink, and keeps it.
  /// - Throws: `RemoteVolumeError`.
  public static func attach(
    adapter: any Adapter, depth: Int,
    makeQueue: (CompletionService, any VolumeRequestSink) throws(ChannelOpenError) ->
      any VolumeRequestQueue
  ) async throws(RemoteVolumeError) -> RemoteVolume {
    let service: CompletionService
    let engine: RemoteVolumeEngine
    do throws(ResourceError) {
      var serviceOptions = CompletionService.Options()
      serviceOptions.threadCount = 1
      serviceOptions.numaNode = adapter.numaNode
      service = try CompletionService(serviceOptions)
    } catch { throw .resource(error.description) }
    do throws(ChannelOpenError) {
      engine = try RemoteVolumeEngine(depth: depth) { sink throws(ChannelOpenError) in
        try makeQueue(service, sink)
      }
    } catch {
      service.stop()
      throw .resource(error.description)
    }
    let result = await withCheckedContinuation { continuation in
      service.execute { engine.attach { continuation.resume(returning: $0) } }
    }
    do throws(RemoteVolumeError) {
      return RemoteVolume(info: try result.get(), service: service, engine: engine)
    } catch {
      await Self.end(engine, service)
      throw error
    }
  }

  /// Closes the connection in order. Requests under way end with `.closed`.
  public func close() async {
    let isFirst = isClosed.withLock { isClosed in
      defer { isClosed = true }
      return !isClosed
    }
    if isFirst { await Self.end(engine, service) }
  }

  private static func end(_ engine: RemoteVolumeEngine, _ service: CompletionService) async {
    await withCheckedContinuation { continuation in
      service.execute {
        engine.close()
        // The endpoint leaves the service in a job of its own.
        service.execute { continuation.resume() }
      }
    }
    service.stop()
  }

  // MARK: Data

  /// Memory for `read` and `write` without a copy.
  ///
  /// - Throws: `.resource` when it cannot be had.
  public func makeBuffer(byteCount: Int) throws(RemoteVolumeError) -> VolumeBuffer {
    try engine.makeBuffer(byteCount: byteCount)
  }

  /// Reads `count` blocks from `block` into `buffer`.
  public func read(
    block: UInt64, count: UInt64, into buffer: VolumeBuffer, at offset: Int = 0
  ) async throws(RemoteVolumeError) {
    try await perform(.read, block: block, count: count, buffer: buffer, offset: offset)
  }

  /// Writes `count` blocks from `block` out of `buffer`.
  public func write(
    block: UInt64, count: UInt64, from buffer: VolumeBuffer, at offset: Int = 0,
    flags: BlockFlags = []
  ) async throws(RemoteVolumeError) {
    try await perform(
      .write, block: block, count: count, buffer: buffer, offset: offset, flags: flags)
  }

  /// Reads `count` blocks.
  public func read(block: UInt64, count: UInt64) async throws(RemoteVolumeError) -> [UInt8] {
    if count == 0 { return [] }
    try checkRange(.read, block, count)
    let byteCount = Int(count) * Int(info.blockByteCount)
    let buffer = try borrow(byteCount)
    defer { giveBack(buffer) }
    try await read(block: block, count: count, into: buffer)
    return unsafe buffer.withBytes { unsafe Array($0.prefix(byteCount)) }
  }

  /// Writes whole blocks.
  ///
  /// - Throws: `.notWholeBlocks` as well; then nothing was written.
  public func write(
    block: UInt64, _ bytes: [UInt8], flags: BlockFlags = []
  ) async throws(RemoteVolumeError) {
    guard bytes.count.isMultiple(of: Int(info.blockByteCount)) else {
      throw .notWholeBlocks(byteCount: bytes.count, blockByteCount: info.blockByteCount)
    }
    if bytes.isEmpty { return }
    let buffer = try borrow(bytes.count)
    defer { giveBack(buffer) }
    unsafe buffer.withBytes { unsafe $0.copyBytes(from: bytes) }
    try await write(
      block: block, count: UInt64(bytes.count / Int(info.blockByteCount)), from: buffer,
      flags: flags)
  }

  /// Makes every write that has ended survive a loss of power.
  public func flush() async throws(RemoteVolumeError) { try await perform(.flush) }

  /// Makes blocks read as zeroes.
  public func writeZeroes(
    block: UInt64, count: UInt64, flags: BlockFlags = []
  ) async throws(RemoteVolumeError) {
    try await perform(.writeZeroes, block: block, count: count, flags: flags)
  }

  /// Gives blocks' space back.
  public func deallocate(block: UInt64, count: UInt64) async throws(RemoteVolumeError) {
    try await perform(.deallocate, block: block, count: count)
  }

  private func perform(
    _ operation: BlockOperation, block: UInt64 = 0, count: UInt64 = 0,
    buffer: VolumeBuffer? = nil, offset: Int = 0, flags: BlockFlags = []
  ) async throws(RemoteVolumeError) {
    if let buffer {
      let (byteCount, overflow) = count.multipliedReportingOverflow(
        by: UInt64(info.blockByteCount))
      precondition(
        !overflow && offset >= 0 && offset <= buffer.byteCount
          && byteCount <= UInt64(buffer.byteCount - offset), "outside the buffer")
    }
    if count == 0 && operation != .flush { return }
    try checkRange(operation, block, count)
    if isClosed.withLock({ $0 }) { throw .closed }
    let result = await withCheckedContinuation { continuation in
      let job = RemoteVolumeEngine.Job(
        operation, block: block, count: count, buffer: buffer, offset: offset, flags: flags,
        continuation)
      service.execute { [engine] in engine.begin(job) }
    }
    try result.get()
  }

  /// All of it or nothing: a long request goes out in parts, the first of which might lie inside.
  private func checkRange(
    _ operation: BlockOperation, _ block: UInt64, _ count: UInt64
  ) throws(RemoteVolumeError) {
    guard block <= info.blockCount, count <= info.blockCount - block else {
      throw .failed(operation, block: block, blockCount: count, status: .lbaOutOfRange)
    }
  }

  // MARK: Buffers of the faces that copy

  private func borrow(_ byteCount: Int) throws(RemoteVolumeError) -> VolumeBuffer {
    let found = spare.withLock { spare -> VolumeBuffer? in
      guard let index = spare.firstIndex(where: { $0.byteCount >= byteCount }) else { return nil }
      return spare.remove(at: index)
    }
    if let found { return found }
    return try makeBuffer(byteCount: max(byteCount, 64 << 10))
  }

  private func giveBack(_ buffer: VolumeBuffer) {
    guard buffer.byteCount <= 4 << 20 else { return }
    spare.withLock { spare in
      if spare.count < 8 { spare.append(buffer) }
    }
  }
}
