import FabricPlatform
import FabricStorage
import Testing

/// What every store does, whatever it keeps its blocks on.
@Suite("Store contract")
struct StoreContractTests {
  @Test("ST-10: what was written is read back, 512 and 4096", arguments: StoreKind.available)
  func writtenBlocksAreReadBack(_ kind: StoreKind) throws {
    for blockByteCount in [UInt32(512), 4096] {
      let fixture = try StoreFixture(kind, blockByteCount: blockByteCount)
      let store = fixture.store
      #expect(store.blockByteCount == blockByteCount)
      #expect(store.blockCount == 256)
      let queue = try store.makeQueue(depth: 8)
      let buffer = TestBuffer(byteCount: 64 << 10)
      let count = Int(blockByteCount) * 3
      buffer.fill(5, byteCount: count)
      let written = queue.run(.on(store, .write, 253, 3, at: buffer.address, tag: 7))
      #expect(
        written == BlockCompletion(tag: 7, status: .success, transferredByteCount: UInt32(count)))
      let target = buffer.address + 32768
      let read = queue.run(.on(store, .read, 253, 3, at: target, tag: 8))
      #expect(
        read == BlockCompletion(tag: 8, status: .success, transferredByteCount: UInt32(count)))
      #expect(buffer.bytes(count, at: 32768) == TestBuffer.pattern(5, count))
      _ = queue.run(.on(store, .read, 252, 1, at: target))
      #expect(buffer.bytes(Int(blockByteCount), at: 32768).allSatisfy { $0 == 0 })
    }
  }

  @Test("ST-11: a queue takes no more than its depth", arguments: StoreKind.available)
  func queueIsBounded(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let queue = try fixture.store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 4096 * 8)
    let requests = (0..<8).map { index in
      BlockRequest.on(
        fixture.store, .read, UInt64(index), 1, at: buffer.address + UInt64(index) * 4096,
        tag: UInt64(index))
    }
    #expect(queue.submit(requests.span) == 4)
    #expect(queue.inFlightCount == 4)
    #expect(queue.submit(requests.span) == 0)
    queue.flushSubmissions()
    var tags: [UInt64] = []
    queue.drain { tags.append($0.tag) }
    #expect(tags.sorted() == [0, 1, 2, 3])
    #expect(queue.inFlightCount == 0)
    #expect(queue.run(requests).map(\.tag) == Array(0..<8))
  }

  @Test("ST-12: a small batch takes what fits and leaves the rest", arguments: StoreKind.available)
  func pollFillsSmallBatches(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let queue = try fixture.store.makeQueue(depth: 16)
    let buffer = TestBuffer(byteCount: 4096)
    let requests = (0..<16).map { index in
      BlockRequest.on(fixture.store, .read, 0, 1, at: buffer.address, tag: UInt64(index))
    }
    #expect(queue.submit(requests.span) == 16)
    queue.flushSubmissions()
    let batch = CompletionBatch(capacity: 3)
    var tags: Set<UInt64> = []
    while queue.inFlightCount > 0 {
      queue.waitForCompletion()
      batch.removeAll()
      let count = queue.poll(into: batch)
      #expect(count == batch.count && count <= 3)
      for index in 0..<count { #expect(tags.insert(batch[index].tag).inserted) }
    }
    #expect(tags.count == 16)
  }

  @Test("ST-13: compare tells equal from different", arguments: StoreKind.available)
  func compareTellsEqualFromDifferent(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let store = fixture.store
    let queue = try store.makeQueue(depth: 4)
    let byteCount = 4096 * 64  // more than one bounced piece
    let buffer = TestBuffer(byteCount: byteCount)
    buffer.fill(9, byteCount: byteCount)
    #expect(queue.run(.on(store, .write, 10, 64, at: buffer.address)).status == .success)
    #expect(queue.run(.on(store, .compare, 10, 64, at: buffer.address)).status == .success)
    buffer.fill(200, byteCount: 1, at: byteCount - 1)
    #expect(queue.run(.on(store, .compare, 10, 64, at: buffer.address)).status == .compareFailure)
    #expect(queue.run(.on(store, .compare, 10, 63, at: buffer.address)).status == .success)
  }

  @Test("ST-14: zeroed and deallocated blocks read as zeroes", arguments: StoreKind.available)
  func zeroedBlocksReadAsZeroes(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let store = fixture.store
    let queue = try store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 4096 * 16)
    for (operation, flags) in [
      (BlockOperation.writeZeroes, BlockFlags()), (.writeZeroes, .forceUnitAccess),
      (.deallocate, BlockFlags()),
    ] {
      buffer.fill(3, byteCount: 4096 * 16)
      #expect(queue.run(.on(store, .write, 0, 16, at: buffer.address)).status == .success)
      let ended = queue.run(.on(store, operation, 1, 14, tag: 4, flags: flags))
      #expect(ended == BlockCompletion(tag: 4, status: .success))
      #expect(queue.run(.on(store, .read, 0, 16, at: buffer.address)).status == .success)
      let expected = TestBuffer.pattern(3, 4096 * 16)
      #expect(buffer.bytes(4096) == Array(expected[..<4096]))
      #expect(buffer.bytes(4096 * 14, at: 4096).allSatisfy { $0 == 0 })
      #expect(buffer.bytes(4096, at: 4096 * 15) == Array(expected[(4096 * 15)...]))
    }
  }

  @Test("ST-15: an unreadable block ends reads ahead of it", arguments: StoreKind.available)
  func unreadableBlocksFailReads(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let store = fixture.store
    let queue = try store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 4096 * 16)
    buffer.fill(1, byteCount: 4096 * 8)
    #expect(queue.run(.on(store, .write, 0, 8, at: buffer.address)).status == .success)
    #expect(!store.hasUncorrectableBlocks)
    #expect(queue.run(.on(store, .writeUncorrectable, 4, 2)).status == .success)
    #expect(store.hasUncorrectableBlocks)

    let target = 4096 * 8
    buffer.fill(77, byteCount: 4096 * 8, at: target)
    let address = buffer.address + UInt64(target)
    let partial = queue.run(.on(store, .read, 1, 7, at: address, tag: 3))
    #expect(
      partial
        == BlockCompletion(tag: 3, status: .mediaReadError, transferredByteCount: 3 * 4096))
    #expect(buffer.bytes(3 * 4096, at: target) == buffer.bytes(3 * 4096, at: 4096))
    #expect(
      buffer.bytes(4096 * 4, at: target + 3 * 4096)
        == Array(TestBuffer.pattern(77, 4096 * 7)[(3 * 4096)...]))
    #expect(
      queue.run(.on(store, .read, 5, 1, at: address, tag: 3))
        == BlockCompletion(tag: 3, status: .mediaReadError))
    #expect(queue.run(.on(store, .compare, 5, 1, at: address)).status == .mediaReadError)
    #expect(queue.run(.on(store, .read, 6, 2, at: address)).status == .success)

    #expect(queue.run(.on(store, .write, 5, 1, at: buffer.address)).status == .success)
    #expect(queue.run(.on(store, .read, 5, 1, at: address)).status == .success)
    #expect(queue.run(.on(store, .read, 4, 1, at: address)).status == .mediaReadError)
    #expect(queue.run(.on(store, .writeZeroes, 4, 1)).status == .success)
    #expect(queue.run(.on(store, .read, 0, 8, at: address)).status == .success)
    #expect(!store.hasUncorrectableBlocks)
  }

  @Test("ST-16: a buffer may begin anywhere", arguments: StoreKind.available)
  func unalignedBuffersWork(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let store = fixture.store
    let queue = try store.makeQueue(depth: 4)
    let byteCount = 4096 * 80  // more than two bounced pieces
    let buffer = TestBuffer(byteCount: byteCount + 64)
    for offset in [1, 17, 511] {
      buffer.fill(UInt8(offset & 0xFF), byteCount: byteCount, at: offset)
      let address = buffer.address + UInt64(offset)
      #expect(queue.run(.on(store, .write, 1, 80, at: address)).status == .success)
      #expect(queue.run(.on(store, .compare, 1, 80, at: address)).status == .success)
      buffer.fill(0, byteCount: byteCount, at: offset)
      #expect(queue.run(.on(store, .read, 1, 80, at: address)).status == .success)
      #expect(
        buffer.bytes(byteCount, at: offset) == TestBuffer.pattern(UInt8(offset & 0xFF), byteCount))
    }
  }

  @Test("ST-17: flush and forced writes succeed", arguments: StoreKind.available)
  func durableRequestsSucceed(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let queue = try fixture.store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 4096)
    let forced = BlockRequest.on(
      fixture.store, .write, 2, 1, at: buffer.address, flags: .forceUnitAccess)
    #expect(queue.run(forced).status == .success)
    #expect(
      queue.run(BlockRequest(.flush, tag: 9)) == BlockCompletion(tag: 9, status: .success))
  }

  @Test("ST-18: a sleeper is woken, or told not to sleep", arguments: StoreKind.available)
  func sleepersAreWoken(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let queue = try fixture.store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 4096)
    let poller = try Poller()
    if let descriptor = queue.descriptor { try poller.add(descriptor, tag: 1) }
    let batch = CompletionBatch(capacity: 4)
    for _ in 0..<200 {
      let request = BlockRequest.on(
        fixture.store, .write, 0, 1, at: buffer.address, flags: .forceUnitAccess)
      #expect(queue.submit([request].span) == 1)
      queue.flushSubmissions()
      batch.removeAll()
      while queue.poll(into: batch) == 0 {
        guard queue.arm() else { continue }
        let start = MonotonicTime.now
        // The kernel may end the wait early to run its own completion work on this thread.
        poller.wait(timeout: .seconds(20)) { _ in }
        guard MonotonicTime.now.nanoseconds(since: start) < 10_000_000_000 else {
          Issue.record("slept although the request had ended")
          return queue.drain()
        }
      }
    }
    #expect(queue.arm())
  }

  @Test("ST-19: two queues on two threads see one truth", arguments: StoreKind.available)
  func queuesShareOneTruth(_ kind: StoreKind) async throws {
    let fixture = try StoreFixture(kind)
    let store = fixture.store
    await withTaskGroup(of: Bool.self) { group in
      for part in 0..<2 {
        group.addTask { writeAndCheck(store, first: UInt64(part) * 128, seed: UInt8(part) + 40) }
      }
      for await isRight in group { #expect(isRight) }
    }
    let queue = try store.makeQueue(depth: 2)
    let buffer = TestBuffer(byteCount: 4096)
    for block in [UInt64(0), 127, 128, 255] {
      #expect(queue.run(.on(store, .read, block, 1, at: buffer.address)).status == .success)
      let seed = UInt8(block / 128) + 40 &+ UInt8(block % 128)
      #expect(buffer.bytes(4096) == TestBuffer.pattern(seed, 4096))
    }
  }

  @Test("ST-20: depths outside the limits are refused", arguments: StoreKind.available)
  func depthsAreChecked(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    for depth in [0, -1, 32769] {
      #expect(throws: StoreError.depthNotSupported(depth)) {
        _ = try fixture.store.makeQueue(depth: depth)
      }
    }
  }
}

/// Writes 128 blocks, several at once, and reads each back.
private func writeAndCheck(_ store: any Store, first: UInt64, seed: UInt8) -> Bool {
  guard let queue = try? store.makeQueue(depth: 8) else { return false }
  let buffer = TestBuffer(byteCount: 4096 * 128)
  for index in 0..<128 {
    buffer.fill(seed &+ UInt8(index), byteCount: 4096, at: index * 4096)
  }
  func requests(_ operation: BlockOperation) -> [BlockRequest] {
    (0..<128).map {
      .on(store, operation, first + $0, 1, at: buffer.address + $0 * 4096, tag: $0)
    }
  }
  let ends = queue.run(requests(.write)) + queue.run(requests(.compare))
  return ends.allSatisfy { $0.status == .success }
}
