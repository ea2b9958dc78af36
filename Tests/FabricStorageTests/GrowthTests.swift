import FabricPlatform
import FabricStorage
import Glibc
import Synchronization
import Testing

@Suite("Volumes that grow")
struct GrowthTests {
  private func resize(_ path: String, _ byteCount: Int) -> Bool {
    unsafe truncate(path, byteCount) == 0
  }

  @Test(
    "ST-86: a file that has become larger has more blocks once it is looked at, for open ports, too"
  )
  func growth() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    let store = try FileStore.open(path: path, options: .init(byteCountIfMissing: 8 * 4096))
    let subsystem = TestSubsystem("a")
    let (layer, volume, registration) = try makeLayer(store, subsystem: subsystem)
    let handler = TestHandler()
    let port = try registration.openPort(
      on: volume, access: .readWrite, depth: 4, handler: handler)
    defer { port.close() }
    let buffer = TestBuffer(byteCount: 4096)
    buffer.fill(3, byteCount: 4096)
    func write(_ block: UInt64) -> BlockStatus? {
      handler.run(port, .on(store, .write, block, 1, at: buffer.address))?.status
    }
    #expect(write(8) == .lbaOutOfRange)
    #expect(layer.growVolumes().isEmpty)
    // Of what is no whole block nothing is served.
    #expect(resize(path, 16 * 4096 + 100))
    #expect(write(8) == .lbaOutOfRange, "nobody has looked")
    #expect(layer.growVolumes().map(\.name) == ["v"])
    #expect(volume.blockCount == 16 && subsystem.grown.withLock { $0 } == ["v"])
    #expect(write(15) == .success && write(16) == .lbaOutOfRange)
    // What has become smaller keeps its blocks.
    #expect(resize(path, 4096))
    #expect(layer.growVolumes().isEmpty && volume.blockCount == 16)
    #expect(
      handler.run(port, .on(store, .read, 12, 1, at: buffer.address))?.status == .mediaReadError)
  }

  @Test("ST-86: memory does not grow, and a store with faults grows as the one beneath")
  func others() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    let base = try FileStore.open(path: path, options: .init(byteCountIfMissing: 4096))
    let store = FaultStore(over: base, plan: FaultPlan())
    #expect(resize(path, 8192))
    #expect(store.grow() && store.blockCount == 2 && !store.grow())
    #expect(!(try MemoryStore(byteCount: 4096)).grow())
  }
}
