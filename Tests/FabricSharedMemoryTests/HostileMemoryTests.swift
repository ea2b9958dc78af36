import FabricPlatform
import Foundation
import Testing

@Suite("Shared-memory adapter: memory from a peer")
struct HostileMemoryTests {
  @Test("memory whose size is not sealed, or not what was said, is refused")
  func unsealedOrOtherSize() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "fabric-unsealed-\(getpid())")
    try Data(count: 8192).write(to: path)
    defer { try? FileManager.default.removeItem(at: path) }
    #expect(throws: Errno.invalidArgument) {
      _ = try MemoryFile(received: try Descriptor.opening(path.path()), byteCount: 8192)
    }
    let file = try MemoryFile(name: "hostile", byteCount: 8192)
    for byteCount in [0, -4096, 4096, 8191, 12288, Int.max] {
      #expect(throws: Errno.invalidArgument) {
        _ = try MemoryFile(received: try file.descriptor.duplicate(), byteCount: byteCount)
      }
    }
    _ = try MemoryFile(received: try file.descriptor.duplicate(), byteCount: 8192)
  }

  @Test("sealed memory cannot be mapped writable by anybody, a peer of the same user included")
  func writeSealed() throws {
    let file = try MemoryFile(name: "sealed", byteCount: 4096)
    let mapping = try file.map(.readWrite)
    try file.sealWrites()
    let isSealed = file.isWriteSealed
    #expect(isSealed)
    #expect(throws: Errno.notPermitted) { _ = try file.map(.readWrite) }
    // Nor through a descriptor opened anew.
    let again = try Descriptor.opening("/proc/self/fd/\(file.descriptor.rawValue)")
    #expect(throws: Errno.notPermitted) {
      _ = try Mapping.shared(again, byteCount: 4096, access: .readWrite)
    }
    unsafe mapping.bytes[0] = 5
    let view = try file.map(.read)
    #expect(unsafe view.bytes[0] == 5)
  }

  @Test("a store through a peer's map faults, and only the culprit dies")
  func storeFaults() async {
    await #expect(processExitsWith: .signal(SIGSEGV)) {
      let file = try MemoryFile(name: "victim", byteCount: 4096)
      let mapping = try file.map(.read)
      unsafe mapping.bytes[0] = 1
    }
  }
}
