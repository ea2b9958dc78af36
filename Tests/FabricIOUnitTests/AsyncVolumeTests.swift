import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("Remote volume: the async face", .untilStuck)
struct AsyncVolumeTests {
  @Test("Requests longer than a transfer, many at once, and their errors")
  func requests() async throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let store = try FileStore.open(
        path: scratch.file("f.img"), options: .init(byteCountIfMissing: 1 << 24))
      return [Volume(name: "f", store: store)]
    }
    for name in ["m", "f"] {
      let volume = try await RemoteVolume.attach(
        unit.address(name), adapter: try SharedMemoryAdapter())
      #expect(volume.info.byteCount == 1 << 24)
      let bytes = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 12) }
      try await volume.write(block: 7, bytes)
      try await volume.flush()
      #expect(try await volume.read(block: 7, count: 768) == bytes)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for task in 0..<32 {
          group.addTask {
            let own = [UInt8](repeating: UInt8(task), count: 65536)
            try await volume.write(block: UInt64(1024 + task * 16), own)
            let back = try await volume.read(block: UInt64(1024 + task * 16), count: 16)
            #expect(back == own)
          }
        }
        try await group.waitForAll()
      }
      try await volume.writeZeroes(block: 0, count: 4096)
      #expect(try await volume.read(block: 4000, count: 1) == [UInt8](repeating: 0, count: 4096))
      await #expect {
        _ = try await volume.read(block: 4095, count: 2)
      } throws: { "\($0)".contains("the blocks lie outside the volume") }
      // What begins inside and ends outside is not begun.
      await #expect {
        try await volume.write(block: 4000, [UInt8](repeating: 5, count: 1 << 20))
      } throws: { "\($0)".contains("the blocks lie outside the volume") }
      #expect(try await volume.read(block: 4000, count: 1) == [UInt8](repeating: 0, count: 4096))
      await #expect { _ = try await volume.read(block: 1, count: .max) } throws: {
        "\($0)".contains("the blocks lie outside the volume")
      }
      await #expect { try await volume.write(block: 0, [1, 2, 3]) } throws: {
        "\($0)".contains("expected whole blocks of 4096 bytes to write, got 3 bytes")
      }
      await volume.close()
      await #expect(throws: RemoteVolumeError.self) { try await volume.flush() }
    }
  }

  @Test("IO-40: a unit's volumes are listed in order, also when there is none")
  func discovery() async throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      try ["zz", "a", "b"].map { Volume(name: $0, store: try MemoryStore(byteCount: 8192)) }
    }
    let listing = try await VolumeDiscovery.list(
      unit.address(""), adapter: try SharedMemoryAdapter())
    #expect(listing.volumes.map(\.name) == ["a", "b", "m", "zz"])
    #expect(listing.volumes[0].blockCount == 2)
    let other = try Scratch()
    let empty = try TestUnit(other, memoryByteCount: 0)
    let none = try await VolumeDiscovery.list(
      empty.address(""), adapter: try SharedMemoryAdapter())
    #expect(none.volumes.isEmpty)
    _ = unit
    await #expect(throws: RemoteVolumeError.self) {
      try await VolumeDiscovery.list(
        VolumeAddress(
          unit: .init(fabric: "shm", endpoint: scratch.file("none")), volumeName: ""),
        adapter: try SharedMemoryAdapter())
    }
  }
}
