import CAllocationCounter
import FabricCompletion
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricWire
import Foundation
import TestSupport
import Testing

@Suite("NVMe over its transports: hot path", .serialized)
struct HotPathTests {
  private static let commandCount = 6400
  /// A job to count with, and what may come by chance, whatever the number of commands.
  private static let slack: UInt64 = 100

  /// Allocations of the unit's thread until now.
  private func allocations(_ unit: NVMeUnit) -> UInt64 {
    unit.service.result(of: { fabric_allocation_count() })
  }

  /// So many commands, the same 32 at once each time.
  private func load(_ host: TCPHost, _ opcode: UInt8, count: Int) throws {
    let form: DataPointer =
      opcode == Opcode.IO.read ? .transport(byteCount: 4096) : .inCapsule(byteCount: 4096)
    let data = opcode == Opcode.IO.read ? [] : pattern(4096)
    var bytes: [UInt8] = []
    for number in 0..<32 {
      bytes += host.capsule(
        host.io(opcode, block: UInt64(number * 3), identifier: UInt16(number), data: form),
        data: data)
    }
    let each = opcode == Opcode.IO.read ? 24 + 4096 : 24
    for _ in 0..<count / 32 {
      try host.client.send(bytes)
      _ = try host.client.receive(32 * each)
    }
  }

  @Test("a command allocates nothing (NT-8)", arguments: [true, false])
  func nothingIsAllocated(isFile: Bool) throws {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "nvme-hot-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let store: any Store =
      isFile
      ? try FileStore.open(
        path: folder.appending(path: "disk.img").path,
        options: FileStore.Options(byteCountIfMissing: 16 << 20))
      : try MemoryStore(byteCount: 16 << 20)
    // A sleep allocates in a debug build, and is no command's.
    let unit = try TCPUnit([("disk", store)], spin: .seconds(10))
    let host = try HostPair(unit, countsHead: false).io
    for opcode in [Opcode.IO.write, Opcode.IO.read] {
      // Everything that is made once.
      try load(host, opcode, count: 1600)
      let before = allocations(unit)
      try load(host, opcode, count: Self.commandCount)
      let made = allocations(unit) - before
      #expect(made <= Self.slack, "\(made) in \(Self.commandCount) commands of \(opcode)")
    }
  }

  /// The same over a queue pair.
  private func load(_ host: RDMAHost, _ opcode: UInt8, isInCapsule: Bool, count: Int) throws {
    let page = pattern(4096)
    for _ in 0..<count / 32 {
      for number in 0..<32 {
        let data: DataPointer =
          isInCapsule
          ? .inCapsule(byteCount: 4096)
          : host.data(byteCount: 4096, at: (2 << 20) + number * 4096)
        try host.send(
          host.io(opcode, block: UInt64(number * 3), identifier: UInt16(number), data: data),
          data: isInCapsule ? page : [])
      }
      for _ in 0..<32 { #expect(try host.receive().status == .success) }
    }
  }

  @Test("a command over a queue pair allocates nothing (NR-7)")
  func nothingIsAllocatedOverQueuePairs() throws {
    let unit = try RDMAUnit(spin: .seconds(10))
    let host = try RDMAHostPair(unit).io
    for (opcode, isInCapsule) in [
      (Opcode.IO.write, true), (Opcode.IO.write, false), (Opcode.IO.read, false),
    ] {
      try load(host, opcode, isInCapsule: isInCapsule, count: 640)
      let before = allocations(unit)
      try load(host, opcode, isInCapsule: isInCapsule, count: 1600)
      let made = allocations(unit) - before
      #expect(made <= Self.slack, "\(made) in 1600 commands of \(opcode)")
    }
  }
}
