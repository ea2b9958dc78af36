import FabricPlatform
import FabricStorage
import Foundation
import Testing

@Suite("File store")
struct FileStoreTests {
  @Test("ST-50: what cannot be served is refused with its reason")
  func refusals() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    func refusal(_ path: String, _ options: FileStore.Options = .init()) -> StoreError? {
      do throws(StoreError) {
        _ = try FileStore.open(path: path, options: options)
        return nil
      } catch {
        return error
      }
    }
    #expect(refusal(path) == .missing(path: path))
    #expect(
      refusal(path, .init(byteCountIfMissing: 1 << 20, isReadOnly: true)) == .missing(path: path))
    #expect(refusal(place.path) == .isDirectory(path: place.path))
    #expect(refusal("/dev/null") == .notFileOrDevice(path: "/dev/null"))
    let nested = place.file("none") + "/volume"
    #expect(refusal(nested, .init(byteCountIfMissing: 4096)) == .directoryMissing(path: nested))
    // Nobody makes files there, not even root.
    #expect(
      refusal("/sys/volume", .init(byteCountIfMissing: 4096))
        == .notCreatable(path: "/sys/volume", reason: .permissionDenied))
    #expect(
      refusal(path, .init(byteCountIfMissing: 1000))
        == .sizeNotWhole(byteCount: 1000, blockByteCount: 512))
    #expect(
      refusal(path, .init(blockByteCount: 1024)) == .blockSizeNotSupported(blockByteCount: 1024))
    _ = place.makeFile(byteCount: 0)
    #expect(refusal(path) == .empty(path: path))
    let odd = place.makeFile("odd", byteCount: 4096 + 512)
    #expect(
      refusal(odd, .init(blockByteCount: 4096))
        == .sizeNotMultiple(path: odd, byteCount: 4608, blockByteCount: 4096))
    #expect(!FileManager.default.fileExists(atPath: odd + ".fabric"))
    #expect(refusal(odd) == nil)
    #expect(
      refusal(odd, .init(blockByteCount: 4096))
        == .blockSizeDiffers(path: odd, recorded: 512, requested: 4096))
  }

  @Test("ST-51: a file is served once for writing, or any number of times for reading")
  func filesAreLocked() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    var store: FileStore? = try FileStore.open(
      path: path, options: .init(byteCountIfMissing: 1 << 20))
    var queue: (any StoreQueue)? = try store?.makeQueue(depth: 1)
    let locked = StoreError.locked(path: path)
    let writing = FileStore.Options(lockPatience: .zero)
    let reading = FileStore.Options(isReadOnly: true, lockPatience: .zero)
    #expect(throws: locked) { _ = try FileStore.open(path: path, options: writing) }
    #expect(throws: locked) { _ = try FileStore.open(path: path, options: reading) }
    store = nil
    #expect(throws: locked) { _ = try FileStore.open(path: path, options: writing) }
    #expect(queue?.run(BlockRequest(.flush)).status == .success)
    queue = nil
    let readers = try (0..<2).map { _ in
      try FileStore.open(path: path, options: reading)
    }
    #expect(throws: locked) { _ = try FileStore.open(path: path, options: writing) }
    #expect(readers.allSatisfy { $0.isReadOnly })
  }

  @Test("ST-52: identity and unreadable blocks survive reopening")
  func metadataSurvives() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    let buffer = TestBuffer(byteCount: 4096)
    let identifier: VolumeIdentifier
    do {
      let store = try FileStore.open(path: path, options: .init(byteCountIfMissing: 1 << 20))
      identifier = store.identifier
      let queue = try store.makeQueue(depth: 2)
      #expect(queue.run(.on(store, .writeUncorrectable, 3, 2)).status == .success)
      #expect(queue.run(.on(store, .writeUncorrectable, 100, 1)).status == .success)
      #expect(queue.run(.on(store, .write, 100, 1, at: buffer.address)).status == .success)
    }
    let store = try FileStore.open(path: path)
    #expect(store.identifier == identifier)
    let queue = try store.makeQueue(depth: 2)
    let bad = try (0..<256).filter { block in
      let end = queue.run(.on(store, .read, UInt64(block), 1, at: buffer.address))
      try #require(end.status == .success || end.status == .mediaReadError)
      return end.status == .mediaReadError
    }
    #expect(bad == [3, 4])
  }

  @Test("ST-53: a damaged description is refused and left alone")
  func damagedMetadataIsRefused() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    _ = try FileStore.open(path: path, options: .init(byteCountIfMissing: 1 << 20))
    let original = try Data(contentsOf: URL(fileURLWithPath: path + ".fabric"))
    for damaged in [
      Data(), original.dropLast(3), Data("x".utf8) + original.dropFirst(), Data([0xFF, 0xFE]),
    ] {
      try damaged.write(to: URL(fileURLWithPath: path + ".fabric"))
      let error = #expect(throws: StoreError.self) { _ = try FileStore.open(path: path) }
      guard case .metadataCorrupt = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(try Data(contentsOf: URL(fileURLWithPath: path + ".fabric")) == damaged)
    }
    try original.write(to: URL(fileURLWithPath: path + ".fabric"))
    _ = try FileStore.open(path: path)
    // The volume is gone, its description is not: a new one does not take its name.
    try FileManager.default.removeItem(atPath: path)
    #expect(throws: StoreError.metadataWithoutVolume(path: path, metadataPath: path + ".fabric")) {
      _ = try FileStore.open(path: path, options: .init(byteCountIfMissing: 1 << 20))
    }
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test("ST-58: what a failed opening has made goes again, and nothing else")
  func failuresLeaveNothing() throws {
    let place = TemporaryDirectory()
    let path = place.file()
    let sibling = path + ".fabric"
    func left() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: place.path).sorted()
    }
    func fails(_ options: FileStore.Options) {
      #expect(throws: StoreError.self) { _ = try FileStore.open(path: path, options: options) }
    }
    let making = FileStore.Options(byteCountIfMissing: 1 << 20)
    try Data("junk\n".utf8).write(to: URL(filePath: sibling))
    fails(making)
    #expect(try left() == ["volume.fabric"])
    try FileManager.default.removeItem(atPath: sibling)
    // One that can be opened, but not read.
    try FileManager.default.createDirectory(atPath: sibling, withIntermediateDirectories: false)
    fails(making)
    #expect(try left() == ["volume.fabric"])
    try FileManager.default.removeItem(atPath: sibling)
    // One that cannot be written; and room for nothing of that size.
    fails(FileStore.Options(byteCountIfMissing: 1 << 20, metadataPath: place.file("none") + "/x"))
    fails(FileStore.Options(byteCountIfMissing: (1 << 63) - 4096))
    #expect(try left().isEmpty)
    _ = try FileStore.open(path: path, options: making)
    #expect(try left() == ["volume", "volume.fabric"])
  }

  @Test("ST-83: a volume's file is for its user alone, one that was there stays as it was")
  func mode() throws {
    let (place, old) = (TemporaryDirectory(), TemporaryDirectory())
    func mode(_ path: String) throws -> Int? {
      try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }
    let before = umask(0)
    defer { umask(before) }
    _ = try FileStore.open(path: place.file(), options: .init(byteCountIfMissing: 1 << 20))
    #expect(try mode(place.file()) == 0o600)
    try Data(count: 1 << 20).write(to: URL(filePath: old.file()))
    try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: old.file())
    _ = try FileStore.open(path: old.file())
    #expect(try mode(old.file()) == 0o640)
  }

  @Test("ST-59: a volume is the same through symbolic links")
  func links() throws {
    let (place, other) = (TemporaryDirectory(), TemporaryDirectory())
    let path = place.file()
    let identifier = try FileStore.open(
      path: path, options: .init(byteCountIfMissing: 1 << 20)
    ).identifier
    let alias = other.file("alias")
    try FileManager.default.createSymbolicLink(atPath: alias, withDestinationPath: path)
    #expect(try FileStore.open(path: alias).identifier == identifier)
    #expect(try FileManager.default.contentsOfDirectory(atPath: other.path) == ["alias"])
    // A link that leads nowhere is no place to make a volume.
    let astray = other.file("astray")
    try FileManager.default.createSymbolicLink(atPath: astray, withDestinationPath: path + "x")
    #expect(throws: StoreError.notFileOrDevice(path: astray)) {
      _ = try FileStore.open(path: astray, options: .init(byteCountIfMissing: 1 << 20))
    }
  }

  @Test("ST-54: volumes beyond 4 GiB keep blocks apart", arguments: [UInt32(512), 4096])
  func largeVolumes(_ blockByteCount: UInt32) throws {
    let place = TemporaryDirectory()
    let store = try FileStore.open(
      path: place.file(),
      options: .init(byteCountIfMissing: 6 << 30, blockByteCount: blockByteCount))
    let queue = try store.makeQueue(depth: 2)
    let size = Int(blockByteCount)
    let buffer = TestBuffer(byteCount: 8192)
    let low = UInt64(1 << 30) / UInt64(blockByteCount)
    let high = low + UInt64(4 << 30) / UInt64(blockByteCount)
    for (seed, block) in [(UInt8(1), low), (2, high), (3, store.blockCount - 1)] {
      buffer.fill(seed, byteCount: size)
      #expect(queue.run(.on(store, .write, block, 1, at: buffer.address)).status == .success)
    }
    for (seed, block) in [(UInt8(1), low), (2, high), (3, store.blockCount - 1)] {
      #expect(queue.run(.on(store, .read, block, 1, at: buffer.address)).status == .success)
      #expect(buffer.bytes(size) == TestBuffer.pattern(seed, size))
    }
    // One request over more than 4 GiB.
    let all = BlockRequest(.writeZeroes, blockCount: UInt32(store.blockCount))
    #expect(queue.run(all).status == .success)
    #expect(queue.run(.on(store, .read, high, 1, at: buffer.address)).status == .success)
    #expect(buffer.bytes(size).allSatisfy { $0 == 0 })
  }

  @Test(
    "ST-55: write zeroes and deallocate give space back",
    arguments: [BlockOperation.writeZeroes, .deallocate])
  func holesArePunched(_ operation: BlockOperation) throws {
    let place = TemporaryDirectory()
    let store = try FileStore.open(
      path: place.file(), options: .init(byteCountIfMissing: 4 << 20))
    let queue = try store.makeQueue(depth: 2)
    let buffer = TestBuffer(byteCount: 1 << 20)
    buffer.fill(1, byteCount: 1 << 20)
    #expect(queue.run(.on(store, .write, 0, 256, at: buffer.address)).status == .success)
    #expect(queue.run(BlockRequest(.flush)).status == .success)
    #expect(allocatedByteCount(place.file()) >= 1 << 20)
    #expect(queue.run(.on(store, operation, 64, 192)).status == .success)
    let left = allocatedByteCount(place.file())
    #expect(left >= 64 * 4096 && left < 80 * 4096)
  }

  @Test("ST-56: a preallocated volume takes its space at once")
  func preallocationTakesSpace() throws {
    let place = TemporaryDirectory()
    _ = try FileStore.open(
      path: place.file(), options: .init(byteCountIfMissing: 1 << 20, isPreallocated: true))
    #expect(allocatedByteCount(place.file()) >= 1 << 20)
  }

  @Test("ST-57: a file cut off under its volume fails the lost blocks only")
  func truncatedFilesFailReads() throws {
    let place = TemporaryDirectory()
    let store = try FileStore.open(
      path: place.file(), options: .init(byteCountIfMissing: 1 << 20))
    let queue = try store.makeQueue(depth: 2)
    let buffer = TestBuffer(byteCount: 65536)
    let handle = try #require(FileHandle(forWritingAtPath: place.file()))
    try handle.truncate(atOffset: 8 * 4096)
    let end = queue.run(.on(store, .read, 0, 16, at: buffer.address))
    #expect(
      end
        == BlockCompletion(tag: 0, status: .mediaReadError, transferredByteCount: 8 * 4096))
  }
}
