import CFabricUBLK
import FabricBounded
import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricStorage
import FabricVerbs

/// One of a device's queues: what the kernel asks of it is asked of the unit.
///
/// Each tag of the kernel's has a piece of registered memory of its own, to which the kernel
/// copies what is written and from which it copies what was read. A request that the unit's queue
/// has no room for waits for its turn; its tag is not the kernel's meanwhile. (HD-62, HD-63)
///
/// Threads: confined to the thread that runs the queue's service. Nothing is allocated per request.
@safe
final class UBLKQueue: ProgressSource {
  /// The most bytes that the kernel reads or writes in one request.
  static let transferByteCount = 1 << 20
  /// The most blocks of a part that moves no data.
  static let zeroingBlockCount: UInt64 = 1 << 20
  static let sectorByteCount: UInt64 = 512

  /// A request of the kernel's under way.
  struct Slot: BitwiseCopyable {
    var operation = BlockOperation.flush
    var flags: BlockFlags = []
    var isWaiting = false
    /// Of the first part that failed.
    var status = BlockStatus.success
    var block: UInt64 = 0
    var blockCount: UInt64 = 0
    /// Blocks handed to the queue.
    var submittedCount: UInt64 = 0
    /// Parts handed to the queue that have not ended; a flush is one part.
    var partCount: UInt32 = 0
    var isSubmitted = false
  }

  let queue: RemoteVolumeQueue
  let number: Int
  let isReadOnly: Bool
  let region: MemoryRegion
  let blockByteCount: UInt64
  let largestPart: UInt64
  let slots: FixedTable<Slot>
  /// Tags with something to submit, in order of arrival.
  let waiting: IndexQueue
  private(set) var figures = DeviceFigures()
  private let ring: UBLKRing
  private let descriptions: UBLKDescriptions
  private let tell: (HostVolumeEvent) -> Void

  /// - Parameters:
  ///   - device: of `/dev/ublkcN`, open in this process.
  ///   - depth: how many tags the kernel has.
  init(
    _ queue: RemoteVolumeQueue, info: RemoteVolumeInfo, device: CInt, number: Int, depth: Int,
    isReadOnly: Bool, isEncoded: Bool, tell: @escaping (HostVolumeEvent) -> Void
  ) throws(HostDeviceError) {
    self.queue = queue
    self.number = number
    self.isReadOnly = isReadOnly
    self.tell = tell
    blockByteCount = UInt64(info.blockByteCount)
    largestPart = UInt64(info.maximumTransferByteCount) / UInt64(info.blockByteCount)
    slots = FixedTable(repeating: Slot(), count: depth)
    waiting = IndexQueue(capacity: depth)
    do throws(RegistrationError) {
      region = try queue.allocate(byteCount: depth * Self.transferByteCount)
    } catch { throw .missing(error.description) }
    descriptions = try UBLKDescriptions(device: device, queue: number, depth: depth)
    ring = try UBLKRing(
      device: device, queue: UInt16(number), entryCount: depth, isEncoded: isEncoded)
  }

  /// Fetches a request for each tag: when all queues have, the driver may start the device.
  func start() {
    for tag in 0..<slots.count { ring.fetch(tag: tag, into: address(of: tag)) }
    ring.submit()
  }

  private func address(of tag: Int) -> UInt64 {
    unsafe UInt64(UInt(bitPattern: region.bytes.baseAddress! + tag &* Self.transferByteCount))
  }

  // MARK: Rounds

  func progress() -> Int {
    let count = ring.take()
    guard count > 0 else { return 0 }
    for index in 0..<count {
      let (tag, result) = ring.completion(at: index)
      // Others mean that the device stops: the tag comes no more.
      if result == fabric_ublk_ok { begin(tag) }
    }
    queue.flushSubmissions()
    ring.submit()
    return count
  }

  var descriptor: CInt? { ring.descriptor }
  func arm() { ring.arm() }
  func disarm() { ring.disarm() }
  var nextDeadline: MonotonicTime? { nil }

  // MARK: Requests

  private func begin(_ tag: Int) {
    let asked = descriptions[tag]
    let start = asked.start_sector &* Self.sectorByteCount
    let byteCount = UInt64(asked.nr_sectors) &* Self.sectorByteCount
    var slot = Slot(block: start / blockByteCount, blockCount: byteCount / blockByteCount)
    figures.inFlightCount &+= 1
    switch asked.op_flags & fabric_ublk_op_mask {
    case fabric_ublk_read: slot.operation = .read
    case fabric_ublk_write:
      slot.operation = .write
      if asked.op_flags & fabric_ublk_force_unit_access != 0 { slot.flags = .forceUnitAccess }
    case fabric_ublk_flush: slot.operation = .flush
    // What was discarded reads as zeroes, as with the loop end. (HD-15)
    case fabric_ublk_discard, fabric_ublk_write_zeroes: slot.operation = .writeZeroes
    default: return refuse(tag, EOPNOTSUPP)
    }
    if slot.operation != .flush {
      guard start % blockByteCount == 0, byteCount % blockByteCount == 0, byteCount > 0,
        !slot.operation.movesData || byteCount <= UInt64(Self.transferByteCount)
      else { return refuse(tag, EINVAL) }
    }
    guard !isReadOnly || !slot.operation.isModifying else { return refuse(tag, EROFS) }
    slots[tag] = slot
    // Nothing goes before what waits.
    guard waiting.isEmpty, submit(tag) else {
      slots[tag].isWaiting = true
      return waiting.push(tag)
    }
    endIfDone(tag)
  }

  /// Submits what is left of a request. False when the queue is full.
  private func submit(_ tag: Int) -> Bool {
    let slot = slots[tag]
    let mark = UInt64(number) << 16 | UInt64(tag)
    if slot.operation == .flush {
      guard queue.submit(RemoteRequest(.flush, tag: mark)) else { return refused(tag) }
      slots[tag].partCount = 1
      slots[tag].isSubmitted = true
      return true
    }
    let largest = slot.operation.movesData ? largestPart : Self.zeroingBlockCount
    var submitted = slot.submittedCount
    while submitted < slot.blockCount, slots[tag].status == .success {
      let count = min(slot.blockCount &- submitted, largest)
      guard queue.submit(part(of: slot, tag, mark, from: submitted, count: count)) else {
        return refused(tag)
      }
      submitted &+= count
      slots[tag].submittedCount = submitted
      slots[tag].partCount &+= 1
    }
    slots[tag].isSubmitted = true
    return true
  }

  private func part(
    of slot: Slot, _ tag: Int, _ mark: UInt64, from start: UInt64, count: UInt64
  ) -> RemoteRequest {
    guard slot.operation.movesData else {
      return RemoteRequest(
        slot.operation, block: slot.block &+ start, blockCount: UInt32(count), tag: mark,
        flags: slot.flags)
    }
    return RemoteRequest(
      slot.operation, block: slot.block &+ start, blockCount: UInt32(count), region: region,
      offset: tag &* Self.transferByteCount &+ Int(start &* blockByteCount),
      byteCount: Int(count &* blockByteCount), tag: mark, flags: slot.flags)
  }

  /// A queue that is full takes more once something has ended; one that is closed never again.
  private func refused(_ tag: Int) -> Bool {
    guard case .closed = queue.state else { return false }
    slots[tag].status = .aborted
    slots[tag].isSubmitted = true
    return true
  }

  // MARK: Ends

  /// A part of a tag's request has ended.
  func ended(_ tag: Int, _ status: BlockStatus) {
    slots[tag].partCount &-= 1
    if status != .success, slots[tag].status == .success { slots[tag].status = status }
    if !slots[tag].isWaiting { endIfDone(tag) }
  }

  /// After a batch of them: what waited has its turn, and the kernel is told.
  func finishBatch() {
    while let tag = waiting.first, submit(tag) {
      _ = waiting.pop()
      slots[tag].isWaiting = false
      endIfDone(tag)
    }
    ring.submit()
  }

  private func endIfDone(_ tag: Int) {
    let slot = slots[tag]
    guard slot.partCount == 0, slot.isSubmitted else { return }
    let byteCount = slot.blockCount &* blockByteCount
    guard slot.status == .success else {
      noteFailure(of: slot)
      return end(tag, -slot.status.errorNumber(of: slot.operation))
    }
    switch slot.operation {
    case .read:
      figures.readCount &+= 1
      figures.readByteCount &+= byteCount
    case .write:
      figures.writeCount &+= 1
      figures.writeByteCount &+= byteCount
    case .flush: figures.flushCount &+= 1
    default: figures.zeroingCount &+= 1
    }
    end(tag, slot.operation.movesData ? Int32(byteCount) : 0)
  }

  private func end(_ tag: Int, _ result: Int32) {
    figures.inFlightCount &-= 1
    ring.commit(tag: tag, result: result, into: address(of: tag))
  }

  private func refuse(_ tag: Int, _ number: CInt) {
    figures.errorCount &+= 1
    end(tag, -number)
  }

  /// The kernel is told a number only. The first failures are told, then ever fewer.
  private func noteFailure(of slot: Slot) {
    figures.errorCount &+= 1
    let count = figures.errorCount
    guard count <= 16 || count & (count - 1) == 0 else { return }
    tell(
      .failed(
        .failed(
          slot.operation, block: slot.block, blockCount: slot.blockCount, status: slot.status),
        count: count))
  }
}

/// What the driver says of the requests of a queue's tags, in memory that it shares.
@safe
final class UBLKDescriptions {
  private let address: UInt64
  private let byteCount: Int
  private let depth: Int

  init(device: CInt, queue: Int, depth: Int) throws(HostDeviceError) {
    self.depth = depth
    let page = sysconf(CInt(_SC_PAGESIZE))
    let used = depth * MemoryLayout<ublksrv_io_desc>.stride
    byteCount = (used + page - 1) / page * page
    address = fabric_ublk_map(device, UInt32(queue), byteCount)
    guard address != 0 else {
      throw .system(.current, doing: "expected to map the queue of the device")
    }
  }

  deinit { fabric_ublk_unmap(address, byteCount) }

  subscript(tag: Int) -> ublksrv_io_desc {
    precondition(tag >= 0 && tag < depth, "a tag of the queue's")
    return unsafe UnsafePointer<ublksrv_io_desc>(bitPattern: UInt(address))![tag]
  }
}
