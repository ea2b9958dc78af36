import FabricBounded
import CFabricURing
import FabricPlatform
import FabricRing

/// Requests to a file through an io_uring of its own.
///
/// Every request has a slot; a slot has at most one ring entry under way. Long, short and bounced
/// transfers go on from where they stopped.
final class FileStoreQueue: StoreQueue {
  let depth: Int
  let store: FileStore
  let ring: Ring
  let slots: FixedTable<FileSlot>
  let freeSlots: IndexPool
  var ended: CompletionRing
  let blockByteCount: UInt64
  let alignmentMask: UInt64
  /// Aligned room for one piece of each slot's transfer; its pages are taken when first used.
  let bounce: Mapping

  /// The piece in which bounced transfers go, in bytes.
  static let bounceByteCount: UInt64 = 128 << 10
  /// The piece in which other transfers go; the kernel takes up to 2 GiB less a page.
  static let pieceByteCount: UInt64 = 1 << 30

  /// How many requests of one `submit` go to the kernel together: long runs let the device idle
  /// while the rest is being prepared (a virtio disk at depth 32: 15 % fewer reads a second).
  static let runLength = 4

  init(store: FileStore, depth: Int) throws(StoreError) {
    self.store = store
    self.depth = depth
    blockByteCount = UInt64(store.blockByteCount)
    alignmentMask = UInt64(store.memoryAlignment - 1)
    slots = FixedTable(repeating: FileSlot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    ended = CompletionRing(capacity: depth)
    do throws(Errno) {
      bounce = try Mapping.anonymous(byteCount: depth * Int(Self.bounceByteCount))
    } catch {
      throw .ringUnavailable(reason: error)
    }
    do throws(Errno) {
      ring = try Ring(entryCount: depth, file: store.fileNumber)
    } catch { throw .ringUnavailable(reason: error) }
  }

  deinit {
    // The kernel must not write into buffers whose owner believes that all has ended.
    drain()
  }

  var inFlightCount: Int { depth &- freeSlots.count &+ ended.count }
  var descriptor: CInt? { ring.descriptor }

  func submit(_ requests: Span<BlockRequest>) -> Int {
    ring.activate()
    let count = min(requests.count, depth &- inFlightCount)
    for index in 0..<count {
      begin(requests[index])
      if index % Self.runLength == Self.runLength - 1 { ring.submit() }
    }
    return count
  }

  func flushSubmissions() { ring.submit() }

  func poll(into batch: CompletionBatch) -> Int {
    var moved = ended.move(into: batch)
    ring.disarm()
    guard freeSlots.count < depth else { return moved }
    while !batch.isFull, ring.hasCompletions() {
      let count = ring.take()
      for index in 0..<count {
        let completion = ring.completion(at: index)
        advance(Int(completion.tag), by: completion.result)
      }
      moved &+= ended.move(into: batch)
    }
    ring.submit()
    return moved
  }

  func arm() -> Bool {
    ring.submit()
    return ended.count == 0 && ring.arm()
  }

  func waitForCompletion() {
    if ended.count == 0, freeSlots.count < depth { ring.submitAndWait() }
  }

  private func begin(_ request: BlockRequest) {
    guard let index = freeSlots.take() else { preconditionFailure("no slot") }
    var slot = FileSlot()
    slot.request = request
    slot.limit = UInt64(request.blockCount) &* blockByteCount
    slots[index] = slot
    switch request.operation {
    case .read, .compare:
      if let bad = store.marks.firstBlock(in: request.blocks) {
        slots[index].outcome = .mediaReadError
        slots[index].limit = (bad &- request.block) &* blockByteCount
      }
      beginTransfer(index)
    case .write:
      beginTransfer(index)
    case .flush:
      slots[index].phase = .sync
      enter(index)
    case .writeZeroes, .deallocate:
      // Zeroing in place a device may do by writing.
      if store.isDevice, request.flags.isSuperset(of: .keptFast) {
        return end(index, .unsupported)
      }
      slots[index].phase = .allocate
      enter(index)
    case .writeUncorrectable:
      do throws(BlockStatus) {
        try store.mark(request.blocks)
        end(index, .success)
      } catch {
        end(index, error)
      }
    }
  }

  private func beginTransfer(_ index: Int) {
    let request = slots[index].request
    slots[index].usesBounce =
      request.operation == .compare || request.address & alignmentMask != 0
    if slots[index].limit == 0 {
      end(index, slots[index].outcome)
    } else {
      enter(index)
    }
  }

  /// Puts the slot's next step into the ring.
  func enter(_ index: Int) {
    let slot = slots[index]
    let request = slot.request
    let offset = request.block &* blockByteCount &+ slot.done
    switch slot.phase {
    case .transfer:
      enterTransfer(index, slot, offset: offset)
    case .zeroFill:
      ring.write(
        tag: UInt32(index), address: store.zeroes.address,
        byteCount: UInt32(min(slot.limit &- slot.done, UInt64(store.zeroes.byteCount))),
        offset: offset, isDurable: false)
    case .allocate:
      ring.allocate(
        tag: UInt32(index), mode: zeroesInPlace(request) ? fabric_zero_range : fabric_punch_hole,
        offset: offset, byteCount: slot.limit)
    case .sync:
      ring.syncData(tag: UInt32(index))
    }
  }

  /// A device zeroes a range without being told how, except that what is to be fast it must punch; a
  /// file gives its space back unless it is to keep it.
  private func zeroesInPlace(_ request: BlockRequest) -> Bool {
    guard request.operation == .writeZeroes else { return false }
    if request.flags.contains(.keepSpace) { return true }
    return store.isDevice && !request.flags.contains(.onlyIfFast)
  }

  private func enterTransfer(_ index: Int, _ slot: FileSlot, offset: UInt64) {
    let rest = slot.limit &- slot.done
    let piece = min(rest, slot.usesBounce ? Self.bounceByteCount : Self.pieceByteCount)
    let source = slot.request.address &+ slot.done
    let address = slot.usesBounce ? bounceAddress(index) : source
    guard slot.request.operation == .write else {
      ring.read(
        tag: UInt32(index), address: address, byteCount: UInt32(piece), offset: offset)
      return
    }
    if slot.usesBounce { copy(from: source, to: address, byteCount: piece) }
    ring.write(
      tag: UInt32(index), address: address, byteCount: UInt32(piece), offset: offset,
      isDurable: slot.request.flags.contains(.forceUnitAccess))
  }

  func bounceAddress(_ index: Int) -> UInt64 {
    bounce.address &+ UInt64(index) &* Self.bounceByteCount
  }

  func copy(from source: UInt64, to target: UInt64, byteCount: UInt64) {
    let source = unsafe UnsafeRawPointer(bitPattern: UInt(source))!
    let target = unsafe UnsafeMutableRawPointer(bitPattern: UInt(target))!
    unsafe target.copyMemory(from: source, byteCount: Int(byteCount))
  }
}
