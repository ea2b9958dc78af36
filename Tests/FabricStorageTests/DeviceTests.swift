import FabricStorage
import Testing

/// Against the kernel's own devices and file systems.
@Suite("File store on devices", .serialized)
struct DeviceTests {
  @Test(
    "ST-60: a flush and a forced write reach the device, a plain write does not wait for it",
    .enabled(if: Machine.hasLoopDevices, "needs root and loop devices"))
  func flushesReachTheDevice() throws {
    let place = TemporaryDirectory()
    let device = LoopDevice(over: place.makeFile("backing", byteCount: 1 << 20))
    let store = try FileStore.open(
      path: device.path, options: .init(metadataPath: place.file("volume.fabric")))
    #expect(store.isDevice && store.blockCount == 256)
    let queue = try store.makeQueue(depth: 2)
    let buffer = TestBuffer(byteCount: 4096)
    func flushes(_ request: BlockRequest) -> Int {
      let before = device.flushCount
      #expect(queue.run(request).status == .success)
      return device.flushCount - before
    }
    let write = BlockRequest.on(store, .write, 1, 1, at: buffer.address)
    var forced = write
    forced.flags = .forceUnitAccess
    let zeroes = BlockRequest.on(store, .writeZeroes, 1, 1, flags: .forceUnitAccess)
    #expect(flushes(write) == 0)
    #expect(flushes(forced) == 1)
    #expect(flushes(write) == 0)
    #expect(flushes(BlockRequest(.flush)) == 1)
    #expect(flushes(zeroes) >= 1)
  }

  @Test(
    "ST-61: a device zeroes and deallocates, and is not shared",
    .enabled(if: Machine.hasLoopDevices, "needs root and loop devices"))
  func devicesZero() throws {
    let place = TemporaryDirectory()
    let device = LoopDevice(over: place.makeFile("backing", byteCount: 1 << 20))
    let options = FileStore.Options(metadataPath: place.file("volume.fabric"))
    let store = try FileStore.open(path: device.path, options: options)
    let queue = try store.makeQueue(depth: 2)
    let buffer = TestBuffer(byteCount: 65536)
    for operation in [BlockOperation.writeZeroes, .deallocate] {
      buffer.fill(4, byteCount: 65536)
      #expect(queue.run(.on(store, .write, 0, 16, at: buffer.address)).status == .success)
      #expect(queue.run(.on(store, operation, 0, 16)).status == .success)
      #expect(queue.run(.on(store, .read, 0, 16, at: buffer.address)).status == .success)
      #expect(buffer.bytes(65536).allSatisfy { $0 == 0 })
    }
    #expect(throws: StoreError.deviceInUse(path: device.path)) {
      _ = try FileStore.open(path: device.path, options: options)
    }
  }

  @Test(
    "ST-62: a full disk is said to be full, and the volume goes on",
    .enabled(if: Machine.isRoot, "needs root to mount a small file system"))
  func fullDisksAreReported() throws {
    let disk = SmallFileSystem(byteCount: 1 << 20)
    let path = disk.path + "/volume"
    #expect(throws: StoreError.noSpace(path: path, byteCount: 4 << 20)) {
      _ = try FileStore.open(
        path: path, options: .init(byteCountIfMissing: 4 << 20, isPreallocated: true))
    }
    let store = try FileStore.open(path: path, options: .init(byteCountIfMissing: 4 << 20))
    let queue = try store.makeQueue(depth: 4)
    let buffer = TestBuffer(byteCount: 65536)
    let ends = queue.run(
      (0..<64).map { .on(store, .write, $0 * 16, 16, at: buffer.address, tag: $0) })
    let statuses = Set(ends.map(\.status))
    #expect(statuses == [.success, .capacityExceeded])
    #expect(queue.run(.on(store, .read, 0, 16, at: buffer.address)).status == .success)
    #expect(queue.run(.on(store, .deallocate, 0, 1024)).status == .success)
    #expect(queue.run(.on(store, .write, 900, 16, at: buffer.address)).status == .success)
  }

  @Test(
    "ST-63: a device that cannot keep what it took fails the write, and the flush is told",
    .enabled(if: Machine.hasLoopDevices, "needs root and loop devices"))
  func failingDevicesAreReported() throws {
    let disk = SmallFileSystem(byteCount: 1 << 20)
    let place = TemporaryDirectory()
    Machine.run("truncate", "--size=4M", disk.path + "/backing")
    let device = LoopDevice(over: disk.path + "/backing")
    let options = FileStore.Options(
      prefersDirect: false, metadataPath: place.file("volume.fabric"))
    // Through the page cache: the writes succeed, the disk fails them at the flush.
    let setting = try makeLayer(try FileStore.open(path: device.path, options: options))
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 8, handler: handler)
    let buffer = TestBuffer(byteCount: 65536)
    let other = port.attach(VolumeClient(of: setting.volume))
    for block in stride(from: UInt64(0), to: 1024, by: 16) {
      var write = BlockRequest.on(setting.volume.store, .write, block, 16, at: buffer.address)
      write.client = block % 32 == 0 ? 0 : other
      #expect(handler.run(port, write)?.status == .success)
    }
    #expect(handler.run(port, BlockRequest(.flush))?.status == .flushFailed)
    #expect(handler.run(port, BlockRequest(.flush, client: other))?.status == .flushFailed)
    port.close()
  }

  @Test(
    "ST-64: a file system that may only be read is said to be",
    .enabled(if: Machine.isRoot, "needs root to mount a file system"))
  func readOnlyFileSystems() throws {
    let disk = SmallFileSystem(byteCount: 1 << 20)
    let path = disk.path + "/volume"
    _ = try FileStore.open(path: path, options: .init(byteCountIfMissing: 65536))
    Machine.run("mount", "-o", "remount,ro", disk.path)
    let error = #expect(throws: StoreError.self) { _ = try FileStore.open(path: path) }
    guard case .notWritable(path, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    let store = try FileStore.open(path: path, options: .init(isReadOnly: true))
    #expect(store.isReadOnly && store.blockCount == 16)
  }
}
