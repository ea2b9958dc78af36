import FabricFrontEnds
import FabricPlatform
import FabricStorage
import Synchronization
import Testing

@Suite("DataBuffers")
struct DataBuffersTests {
  /// Memory as long as there is some.
  private final class Scarce: DataMemorySource {
    let isThere = Mutex(true)

    func makeMemory(byteCount: Int) -> DataMemory? {
      isThere.withLock { $0 } ? PlainMemory().makeMemory(byteCount: byteCount) : nil
    }
  }

  @Test("who has as much as is left waits; what is given back is there for all")
  func shares() {
    let buffers = DataBuffers(
      elementByteCount: 4096, elementCount: 8, largeByteLimit: 8 * 8192)
    let (greedy, modest) = (DataBuffers.Holding(), DataBuffers.Holding())
    var taken: [DataBuffers.Buffer] = []
    while let buffer = buffers.take(4096, for: greedy) { taken.append(buffer) }
    #expect(taken.count == 4)
    #expect(!buffers.isExhausted)
    let other = buffers.take(1, for: modest)
    #expect(other != nil)
    #expect(Set(taken.map(\.address)).count == 4)
    for buffer in taken { buffers.give(buffer, of: greedy) }
    #expect(greedy.isEmpty && buffers.freeElementCount == 7)
    var large: [DataBuffers.Buffer] = []
    while let buffer = buffers.take(8192, for: greedy) { large.append(buffer) }
    #expect(large.count == 4)
    #expect(buffers.take(8192, for: modest) != nil)
  }

  @Test("what the system refuses is worth waiting for only while somebody has some")
  func exhaustion() throws {
    let source = Scarce()
    let buffers = DataBuffers(
      elementByteCount: 4096, elementCount: 64, largeByteLimit: 1 << 20, source: source)
    let holding = DataBuffers.Holding()
    source.isThere.withLock { $0 = false }
    #expect(buffers.take(4096, for: holding) == nil && buffers.isExhausted)
    #expect(buffers.take(8192, for: holding) == nil && buffers.isExhausted)
    source.isThere.withLock { $0 = true }
    // One chunk of elements, and one large buffer.
    var elements: [DataBuffers.Buffer] = []
    elements.append(try #require(buffers.take(4096, for: holding)))
    let large = try #require(buffers.take(8192, for: holding))
    source.isThere.withLock { $0 = false }
    while let buffer = buffers.take(4096, for: holding) { elements.append(buffer) }
    #expect(elements.count == DataBuffers.elementsPerChunk)
    #expect(!buffers.isExhausted)
    #expect(buffers.take(8192, for: holding) == nil && !buffers.isExhausted)
    // What was given back serves again.
    buffers.give(large, of: holding)
    #expect(buffers.take(8192, for: holding)?.address == large.address)
  }
}
