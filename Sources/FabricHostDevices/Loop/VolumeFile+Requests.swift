import FabricBounded
import FabricHostDriver
import FabricStorage
import FabricVerbs

/// From a request of the kernel's to commands of at most what the unit takes at once, and back.
extension VolumeFile {
  /// Begins what has landed as a request under way. (HD-12)
  ///
  /// - Parameter dataOffset: of the data in the element.
  func begin(
    _ request: FileRequest, _ operation: BlockOperation, offset: UInt64, byteCount: UInt64,
    dataOffset: Int, flags: BlockFlags = []
  ) {
    let index = landing
    isLandingTaken = true
    slots[index] = Slot(
      request: request, operation: operation, flags: flags,
      dataOffset: index &* Self.elementByteCount &+ dataOffset, block: offset / blockByteCount,
      blockCount: byteCount / blockByteCount)
    figures.inFlightCount &+= 1
    // Nothing is taken from the kernel while others wait.
    guard submit(index) else {
      slots[index].isWaiting = true
      waiting.push(index)
      return
    }
    endIfDone(index)
  }

  /// Submits what is left of a request. False when the queue is full.
  private func submit(_ index: Int) -> Bool {
    let slot = slots[index]
    if slot.operation == .flush {
      guard queue.submit(RemoteRequest(.flush, tag: UInt64(index))) else { return refused(index) }
      slots[index].partCount = 1
      slots[index].isSubmitted = true
      return true
    }
    let largest = slot.operation.movesData ? largestPart : Self.zeroingBlockCount
    var submitted = slot.submittedCount
    while submitted < slot.blockCount, slots[index].status == .success {
      let count = min(slot.blockCount &- submitted, largest)
      guard queue.submit(part(of: slot, index, from: submitted, count: count)) else {
        return refused(index)
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
        tag: UInt64(index), flags: slot.flags)
    }
    return RemoteRequest(
      slot.operation, block: slot.block &+ start, blockCount: UInt32(count), region: region,
      offset: slot.dataOffset &+ Int(start &* blockByteCount),
      byteCount: Int(count &* blockByteCount), tag: UInt64(index), flags: slot.flags)
  }

  /// A queue that is full takes more once something has ended; one that is closed never again.
  private func refused(_ index: Int) -> Bool {
    guard case .closed = queue.state else { return false }
    slots[index].status = .aborted
    slots[index].isSubmitted = true
    return true
  }

  func submitWaiting() {
    while let index = waiting.first {
      guard submit(index) else { return }
      _ = waiting.pop()
      slots[index].isWaiting = false
      endIfDone(index)
    }
  }

  func endIfDone(_ index: Int) {
    guard slots[index].partCount == 0, slots[index].isSubmitted else { return }
    let slot = slots[index]
    let byteCount = slot.blockCount &* blockByteCount
    if slot.status != .success {
      noteFailure(of: slot)
      slot.request.end(slot.status.errorNumber(of: slot.operation))
    } else {
      switch slot.operation {
      case .read:
        figures.readCount &+= 1
        figures.readByteCount &+= byteCount
        let place = unsafe region.bytes.baseAddress! + slot.dataOffset
        unsafe slot.request.end(place, byteCount: Int(byteCount))
      case .write:
        figures.writeCount &+= 1
        figures.writeByteCount &+= byteCount
        slot.request.endWrite(byteCount: Int(byteCount))
      default:
        if slot.operation == .flush {
          figures.flushCount &+= 1
        } else {
          figures.zeroingCount &+= 1
        }
        slot.request.end(0)
      }
    }
    figures.inFlightCount &-= 1
    freeSlots.give(index)
  }
}
