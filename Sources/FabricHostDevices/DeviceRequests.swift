import FabricBounded
import FabricHostDriver
import FabricStorage
import FabricVerbs

/// The requests of the kernel's that are under way at one of a device's queues. What is longer than
/// the unit takes at once is cut into parts, all of them under way at once; the whole ends when the
/// last part has, with the error of the first that failed. A request that the unit's queue has no
/// room for waits for its turn. (HD-12)
///
/// Threads: confined to the thread that runs the queue's service. Nothing is allocated per request.
final class DeviceRequests {
  /// The most blocks of a part that moves no data.
  private static let zeroingBlockCount: UInt64 = 1 << 20

  /// A request of the kernel's under way.
  private struct Slot: BitwiseCopyable {
    var operation = BlockOperation.flush
    var flags: BlockFlags = []
    var isWaiting = false
    /// Of the first part that failed.
    var status = BlockStatus.success
    /// Where the data lies in the region.
    var dataOffset = 0
    var block: UInt64 = 0
    var blockCount: UInt64 = 0
    /// Blocks handed to the queue.
    var submittedCount: UInt64 = 0
    /// Parts handed to the queue that have not ended; a flush is one part.
    var partCount: UInt32 = 0
    var isSubmitted = false
  }

  let queue: RemoteVolumeQueue
  /// Where the data of requests lies.
  let region: MemoryRegion
  let blockByteCount: UInt64
  private(set) var figures = DeviceFigures()
  private let largestPart: UInt64
  /// Of all tags of this object's.
  private let mark: UInt64
  private let slots: FixedTable<Slot>
  /// Slots with something to submit, in order of arrival.
  private let waiting: IndexQueue
  private let tell: (HostVolumeEvent) -> Void

  /// - Parameters:
  ///   - depth: how many slots there are.
  ///   - byteCount: of the region.
  ///   - number: of the device's queue: in the tag of each request its slot stands below the bit 16,
  ///     this number above.
  ///   - tell: told of requests that failed.
  init(
    _ queue: RemoteVolumeQueue, info: RemoteVolumeInfo, depth: Int, byteCount: Int, number: Int,
    tell: @escaping (HostVolumeEvent) -> Void
  ) throws(HostDeviceError) {
    precondition((1...0x1_0000).contains(depth), "1 to 65536 slots")
    self.queue = queue
    self.tell = tell
    mark = UInt64(number) << 16
    blockByteCount = UInt64(info.blockByteCount)
    largestPart = UInt64(info.maximumTransferByteCount) / UInt64(info.blockByteCount)
    slots = FixedTable(repeating: Slot(), count: depth)
    waiting = IndexQueue(capacity: depth)
    do throws(RegistrationError) {
      region = try queue.allocate(byteCount: byteCount)
    } catch { throw .missing(error.description) }
  }

  /// Whether requests wait for room in the unit's queue: those that come now wait behind them.
  var areWaiting: Bool { !waiting.isEmpty }

  /// Begins a request in a slot that has none.
  ///
  /// - Parameter dataOffset: of the data in the region.
  /// - Returns: whether it has ended already: `end` is to be called.
  func begin(
    _ index: Int, _ operation: BlockOperation, block: UInt64 = 0, blockCount: UInt64 = 0,
    dataOffset: Int = 0, flags: BlockFlags = []
  ) -> Bool {
    slots[index] = Slot(
      operation: operation, flags: flags, dataOffset: dataOffset, block: block,
      blockCount: blockCount)
    figures.inFlightCount &+= 1
    // Nothing goes before what waits.
    guard waiting.isEmpty, submit(index) else {
      slots[index].isWaiting = true
      waiting.push(index)
      return false
    }
    return isDone(index)
  }

  /// A part of a slot's request has ended.
  ///
  /// - Returns: whether the request has: `end` is to be called.
  func partEnded(_ index: Int, _ status: BlockStatus) -> Bool {
    slots[index].partCount &-= 1
    if status != .success, slots[index].status == .success { slots[index].status = status }
    return !slots[index].isWaiting && isDone(index)
  }

  /// Gives what waited its turn, as far as there is room.
  ///
  /// - Parameter ended: called for each request that has ended by that: `end` is to be called.
  func submitWaiting(_ ended: (Int) -> Void) {
    while let index = waiting.first, submit(index) {
      _ = waiting.pop()
      slots[index].isWaiting = false
      if isDone(index) { ended(index) }
    }
  }

  private func isDone(_ index: Int) -> Bool {
    slots[index].partCount == 0 && slots[index].isSubmitted
  }

  /// Counts a request that has ended; its slot has none from now on.
  func end(_ index: Int) -> (operation: BlockOperation, status: BlockStatus, byteCount: Int) {
    let slot = slots[index]
    let byteCount = slot.blockCount &* blockByteCount
    figures.inFlightCount &-= 1
    if slot.status != .success {
      noteFailure(of: slot)
    } else {
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
    }
    return (slot.operation, slot.status, slot.operation.movesData ? Int(byteCount) : 0)
  }

  /// Counts a request that was refused before it began.
  func noteRefusal() { figures.errorCount &+= 1 }

  // MARK: Parts

  /// Submits what is left of a request. False when the queue is full.
  private func submit(_ index: Int) -> Bool {
    let slot = slots[index]
    if slot.operation == .flush {
      guard queue.submit(RemoteRequest(.flush, tag: mark | UInt64(index))) else {
        return isClosed(index)
      }
      slots[index].partCount = 1
      slots[index].isSubmitted = true
      return true
    }
    let largest = slot.operation.movesData ? largestPart : Self.zeroingBlockCount
    var submitted = slot.submittedCount
    while submitted < slot.blockCount, slots[index].status == .success {
      let count = min(slot.blockCount &- submitted, largest)
      guard queue.submit(part(of: slot, index, from: submitted, count: count)) else {
        return isClosed(index)
      }
      submitted &+= count
      slots[index].submittedCount = submitted
      slots[index].partCount &+= 1
    }
    slots[index].isSubmitted = true
    return true
  }

  private func part(
    of slot: Slot, _ index: Int, from start: UInt64, count: UInt64
  ) -> RemoteRequest {
    guard slot.operation.movesData else {
      return RemoteRequest(
        slot.operation, block: slot.block &+ start, blockCount: UInt32(count),
        tag: mark | UInt64(index), flags: slot.flags)
    }
    return RemoteRequest(
      slot.operation, block: slot.block &+ start, blockCount: UInt32(count), region: region,
      offset: slot.dataOffset &+ Int(start &* blockByteCount),
      byteCount: Int(count &* blockByteCount), tag: mark | UInt64(index), flags: slot.flags)
  }

  /// A queue that is full takes more once something has ended; one that is closed never again.
  private func isClosed(_ index: Int) -> Bool {
    guard case .closed = queue.state else { return false }
    slots[index].status = .aborted
    slots[index].isSubmitted = true
    return true
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
