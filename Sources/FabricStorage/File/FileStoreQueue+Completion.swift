import FabricBounded
import CFabricURing

extension FileStoreQueue {
  /// Takes a slot on after the kernel answered `result` to its step.
  func advance(_ index: Int, by result: Int32) {
    if result == -EAGAIN || result == -EINTR { return stall(index) }
    switch slots[index].phase {
    case .transfer: advanceTransfer(index, result)
    case .zeroFill: advanceZeroFill(index, result)
    case .allocate: advanceAllocation(index, result)
    case .sync: endSync(index, result)
    }
  }

  private func advanceTransfer(_ index: Int, _ result: Int32) {
    let slot = slots[index]
    guard result >= 0 else {
      return end(index, BlockStatus(failure: result, of: slot.request.operation))
    }
    // The file ended early: somebody cut it off under us.
    if result == 0 {
      return end(index, slot.request.operation == .write ? .mediaWriteError : .mediaReadError)
    }
    // A direct transfer goes on at a whole block only.
    let moved = min(UInt64(result), slot.limit &- slot.done)
    let whole = moved &- moved % blockByteCount
    if whole == 0 { return stall(index) }
    if slot.usesBounce, !settleBounce(index, slot, byteCount: whole) {
      return end(index, .compareFailure)
    }
    slots[index].stallCount = 0
    slots[index].done = slot.done &+ whole
    if slots[index].done < slot.limit { return enter(index) }
    end(index, slot.outcome)
  }

  /// Moves a bounced piece to the caller, or compares it; false when it differs.
  private func settleBounce(_ index: Int, _ slot: FileSlot, byteCount: UInt64) -> Bool {
    let target = slot.request.address &+ slot.done
    switch slot.request.operation {
    case .compare:
      let stored = unsafe UnsafeRawPointer(bitPattern: UInt(bounceAddress(index)))!
      let given = unsafe UnsafeRawPointer(bitPattern: UInt(target))!
      return unsafe memcmp(stored, given, Int(byteCount)) == 0
    case .read:
      copy(from: bounceAddress(index), to: target, byteCount: byteCount)
      return true
    default:
      return true
    }
  }

  private func advanceZeroFill(_ index: Int, _ result: Int32) {
    let slot = slots[index]
    guard result >= 0 else { return end(index, BlockStatus(failure: result, of: .write)) }
    let whole = UInt64(result) &- UInt64(result) % blockByteCount
    if whole == 0 { return stall(index) }
    slots[index].stallCount = 0
    slots[index].done = slot.done &+ whole
    if slots[index].done < slot.limit { return enter(index) }
    endAllocation(index)
  }

  private func advanceAllocation(_ index: Int, _ result: Int32) {
    if result >= 0 { return endAllocation(index) }
    let operation = slots[index].request.operation
    guard result == -EOPNOTSUPP || result == -ENOSYS else {
      return end(index, BlockStatus(failure: result, of: operation))
    }
    // Deallocation is advice: who cannot follow it has still done no harm.
    if operation == .deallocate { return end(index, .success) }
    if slots[index].request.flags.contains(.onlyIfFast) { return end(index, .unsupported) }
    slots[index].phase = .zeroFill
    enter(index)
  }

  private func endAllocation(_ index: Int) {
    guard slots[index].request.flags.contains(.forceUnitAccess) else {
      return end(index, .success)
    }
    slots[index].phase = .sync
    enter(index)
  }

  private func endSync(_ index: Int, _ result: Int32) {
    if result >= 0 { return end(index, .success) }
    // Never tried again here: a second fdatasync may succeed without having written anything.
    let operation = slots[index].request.operation
    let status = BlockStatus(failure: result, of: operation)
    end(index, operation == .flush && status != .aborted ? .flushFailed : status)
  }

  private func stall(_ index: Int) {
    slots[index].stallCount += 1
    if slots[index].stallCount > FileSlot.maximumStallCount { return end(index, .internalError) }
    enter(index)
  }

  /// Frees the slot and keeps its completion for the next poll.
  func end(_ index: Int, _ status: BlockStatus) {
    let slot = slots[index]
    let request = slot.request
    var status = status
    if status == .success, request.operation.isModifying, !store.marks.isEmpty,
      request.operation != .writeUncorrectable
    {
      do throws(BlockStatus) { try store.clearMarks(request.blocks) } catch { status = error }
    }
    var moved: UInt32 = 0
    switch status {
    case .success: moved = request.byteCount
    case .mediaReadError, .mediaWriteError, .capacityExceeded:
      moved = request.operation.movesData ? UInt32(slot.done) : 0
    default: break
    }
    freeSlots.give(index)
    ended.push(
      BlockCompletion(tag: request.tag, status: status, transferredByteCount: moved))
  }
}
