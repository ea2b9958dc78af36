import FabricStorage
import Foundation
import Testing

@Suite("Stores: where holes are")
struct ExtentTests {
  /// All extents of a store, as blocks and whether they have space.
  private func extents(_ store: any Store) -> [BlockExtent] {
    var rest = 0..<store.blockCount
    var all: [BlockExtent] = []
    while !rest.isEmpty {
      let extent = store.extent(of: rest)
      #expect(extent.blockCount > 0 && extent.blockCount <= UInt64(rest.count))
      all.append(extent)
      rest = (rest.lowerBound + extent.blockCount)..<rest.upperBound
    }
    return all
  }

  private func holes(_ counts: (UInt64, Bool)...) -> [BlockExtent] {
    counts.map { BlockExtent(blockCount: $0.0, isAllocated: $0.1) }
  }

  @Test("ST-84: a file's holes are told in whole blocks, also through a fault filter")
  func file() throws {
    let place = TemporaryDirectory()
    let store = try FileStore.open(
      path: place.file(), options: .init(byteCountIfMissing: 1 << 20, blockByteCount: 4096))
    #expect(extents(store) == holes((256, false)))
    let queue = try store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 8192)
    buffer.fill(3, byteCount: 8192)
    #expect(queue.run(.on(store, .write, 16, 2, at: buffer.address)).status == .success)
    #expect(extents(store) == holes((16, false), (2, true), (238, false)))
    #expect(store.extent(of: 17..<20) == BlockExtent(blockCount: 1, isAllocated: true))
    let faults = FaultStore(over: store, plan: try FaultPlan(parsing: "delay=1ms"))
    #expect(extents(faults) == extents(store))
    // A hole that is unreadable is no zeroes.
    #expect(queue.run(.on(store, .writeUncorrectable, 100, 1)).status == .success)
    #expect(extents(store) == holes((256, true)))
  }

  @Test("ST-84: a block that is data in part is data; memory is data")
  func partial() throws {
    let place = TemporaryDirectory()
    // The file system's own blocks may be larger than ours, never smaller.
    let path = place.makeFile(byteCount: 1 << 20)
    let handle = try #require(FileHandle(forWritingAtPath: path))
    try handle.seek(toOffset: 65536 + 512)
    try handle.write(contentsOf: Data([1]))
    try handle.close()
    let store = try FileStore.open(path: path, options: .init(blockByteCount: 4096))
    #expect(extents(store) == holes((16, false), (1, true), (239, false)))
    let memory = try MemoryStore(byteCount: 1 << 20)
    #expect(extents(memory) == holes((256, true)))
  }

  @Test("ST-85: zeroes that keep their space, and zeroes that must be quick")
  func flags() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    let store = try FileStore.open(
      path: path, options: .init(byteCountIfMissing: 1 << 20, blockByteCount: 4096))
    let queue = try store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 65536)
    buffer.fill(9, byteCount: 65536)
    #expect(queue.run(.on(store, .write, 0, 16, at: buffer.address)).status == .success)
    let full = allocatedByteCount(path)
    #expect(queue.run(.on(store, .writeZeroes, 0, 16, flags: .keepSpace)).status == .success)
    #expect(allocatedByteCount(path) == full)
    #expect(queue.run(.on(store, .read, 0, 16, at: buffer.address)).status == .success)
    #expect(buffer.bytes(65536) == [UInt8](repeating: 0, count: 65536))
    let quick = queue.run(.on(store, .writeZeroes, 0, 16, flags: .onlyIfFast)).status
    #expect(quick == .success || quick == .unsupported)
    if quick == .success { #expect(allocatedByteCount(path) < full) }
  }
}
