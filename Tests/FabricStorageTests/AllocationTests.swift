import CAllocationCounter
import FabricStorage
import Testing

/// Keeps a port full of reads; counts without growing anything.
private final class Repeater: VolumePortHandler {
  var endedCount = 0
  var failureCount = 0

  func volumePort(_ port: VolumePort, completed batch: Span<BlockCompletion>) {
    endedCount += batch.count
    for index in batch.indices where batch[index].status != .success { failureCount += 1 }
  }

  func run(_ port: VolumePort, _ request: BlockRequest, count: Int) {
    endedCount = 0
    var begun = 0
    while endedCount < count {
      while begun < count, port.submit(request) { begun += 1 }
      port.flushSubmissions()
      port.waitForCompletion()
      port.poll()
    }
  }
}

@Suite("Storage allocations")
struct AllocationTests {
  @Test("ST-37: requests allocate nothing", arguments: StoreKind.available)
  func requestsAllocateNothing(_ kind: StoreKind) throws {
    let fixture = try StoreFixture(kind)
    let setting = try makeLayer(fixture.store)
    let repeater = Repeater()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 16, handler: repeater)
    let buffer = TestBuffer(byteCount: 8192)
    let requests: [BlockRequest] = [
      .on(fixture.store, .read, 1, 1, at: buffer.address),
      .on(fixture.store, .write, 1, 1, at: buffer.address),
      .on(fixture.store, .compare, 1, 1, at: buffer.address),
      .on(fixture.store, .read, 1, 1, at: buffer.address + 1),
      BlockRequest(.read, block: .max, blockCount: 1),
      BlockRequest(.flush),
    ]
    for request in requests {
      repeater.run(port, request, count: 64)
      let before = fabric_allocation_count()
      repeater.run(port, request, count: 1000)
      let allocated = fabric_allocation_count() - before
      #expect(allocated == 0, "\(request.operation)")
    }
    // The counter counts.
    let before = fabric_allocation_count()
    let array = [UInt8](repeating: 1, count: Int(requests[0].byteCount))
    #expect(fabric_allocation_count() > before && array.count > 0)
    port.close()
  }
}
