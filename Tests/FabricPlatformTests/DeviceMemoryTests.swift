import FabricPlatform
import Testing

@Suite("Memory for devices")
struct DeviceMemoryTests {
  @Test("it is zeroed and may be written, of any size, whatever the machine has of huge pages")
  func sizes() throws {
    let huge = Mapping.hugePageByteCount
    for byteCount in [1, pageByteCount, huge - 1, huge, huge + 1, 3 * huge + 5 * pageByteCount] {
      let mapping = try Mapping.forDevice(byteCount: byteCount)
      #expect(mapping.byteCount >= byteCount)
      #expect(mapping.byteCount.isMultiple(of: pageByteCount))
      unsafe #expect(mapping.bytes.allSatisfy { $0 == 0 })
      unsafe mapping.bytes.storeBytes(of: 7, toByteOffset: mapping.byteCount - 1, as: UInt8.self)
    }
  }

  @Test("from 2 MiB on it begins where a huge page can")
  func borders() throws {
    var kept: [Mapping] = []
    for _ in 0..<8 {
      let mapping = try Mapping.forDevice(byteCount: Mapping.hugePageByteCount + pageByteCount)
      #expect(mapping.address.isMultiple(of: UInt64(Mapping.hugePageByteCount)))
      kept.append(mapping)
    }
  }

  @Test("what is mapped to find such a place, and all of it at the end, is given back")
  func givenBack() async {
    // A process of its own: nobody else maps anything.
    await #expect(processExitsWith: .success) {
      let before = mappedPageCount()
      for _ in 0..<1000 {
        _ = try Mapping.forDevice(byteCount: Mapping.hugePageByteCount + pageByteCount)
      }
      let more = mappedPageCount() - before
      precondition(more < 100 * Mapping.hugePageByteCount / pageByteCount, "\(more) pages more")
    }
  }

  @Test("a node that does not exist, and a machine of one node, change nothing")
  func noNode() throws {
    for node in [-1, 1023, 1 << 40] {
      let mapping = try Mapping.forDevice(byteCount: pageByteCount, near: node)
      #expect(!MemoryNode.prefer(node, for: mapping.address, byteCount: mapping.byteCount))
      #expect(!MemoryNode.runCallingThread(near: node))
    }
    guard MemoryNode.count <= 1 else { return }
    let count = Processor.availableCount
    #expect(!MemoryNode.runCallingThread(near: 0))
    #expect(Processor.availableCount == count)
  }
}

/// Address space of this process, in pages.
private func mappedPageCount() -> Int {
  KernelFile.text("/proc/self/statm")?.split(separator: " ").first.flatMap { Int($0) } ?? 0
}
