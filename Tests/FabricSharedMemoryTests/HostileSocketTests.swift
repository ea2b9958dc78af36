import CFabricLinux
import FabricPlatform
import FabricVerbs
import Foundation
import TestSupport
import Testing

@testable import FabricSharedMemory

/// What a peer sends over its socket after the welcome, and what must come of it: words of the
/// reason, or nil where the connection stays.
struct SocketAttack: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let words: String?
  let launch: @Sendable (HostilePeer) throws -> Void

  init(_ name: String, _ words: String?, _ launch: @escaping @Sendable (HostilePeer) throws -> Void)
  {
    testDescription = name
    self.words = words
    self.launch = launch
  }

  static let datagrams: [SocketAttack] = [
    SocketAttack("an unknown kind", "malformed") { try $0.send { $0[0] = 99 } },
    SocketAttack("another version", "malformed") { try $0.send { $0[1] = 2 } },
    SocketAttack("another mark", "malformed") { try $0.send { $0[4] = 0 } },
    SocketAttack("private data that is not there", "malformed") { try $0.send { $0[2] = 1 } },
    SocketAttack("too long", "malformed") {
      try $0.socket.send([UInt8](repeating: 6, count: 2000))
    },
    SocketAttack("too short", "malformed") { try $0.socket.send([6, 1, 0, 0, 0x43]) },
    SocketAttack("no bytes at all", "peerDied") { try $0.socket.send([]) },
    SocketAttack("a second hello", "out of place") { try $0.sendOpening { .hello($0) } },
    SocketAttack("a welcome that nobody waits for", "out of place") {
      try $0.sendOpening { .welcome($0) }
    },
    SocketAttack("a reject that nobody waits for", "out of place") {
      try $0.socket.send(ControlMessage.reject([1, 2]).bytes)
    },
    SocketAttack("a segment without memory", "out of place") {
      try $0.socket.send(
        ControlMessage.segment(address: 1 << 44, byteCount: 4096, use: .readable).bytes)
    },
    SocketAttack("a segment with two files", "malformed") {
      let number = $0.file.descriptor.rawValue
      try $0.socket.send(
        ControlMessage.segment(
          address: 1 << 44, byteCount: UInt64($0.file.byteCount), use: .readable
        ).bytes, descriptors: [number, number])
    },
    SocketAttack("a doorbell with files", "malformed") {
      let number = $0.file.descriptor.rawValue
      try $0.socket.send([7], descriptors: [number, number, number, number])
    },
    SocketAttack("a goodbye with a file", "out of place") {
      try $0.socket.send(
        ControlMessage.goodbye.bytes, descriptors: [$0.file.descriptor.rawValue])
    },
    SocketAttack("memory withdrawn that was never there", nil) {
      try $0.socket.send(ControlMessage.withdraw(address: 77).bytes)
    },
    SocketAttack("as many doorbells as the socket holds", nil) { $0.flood([7]) },
    SocketAttack("as many withdrawals as the socket holds", nil) {
      $0.flood(ControlMessage.withdraw(address: 1).bytes)
    },
    SocketAttack("as many hellos as the socket holds", "malformed") {
      $0.flood(ControlMessage.hello($0.opening).bytes + [0])
    },
  ]

  static let segments: [SocketAttack] = [
    SocketAttack("of no bytes", "cannot be mapped") { try $0.announceOwn(byteCount: 0) },
    SocketAttack("of 2^63 bytes", "cannot be mapped") { try $0.announceOwn(byteCount: 1 << 63) },
    SocketAttack("of 2^64 - 1 bytes", "cannot be mapped") { try $0.announceOwn(byteCount: .max) },
    SocketAttack("longer than its file", "cannot be mapped") {
      try $0.announceOwn(byteCount: UInt64($0.file.byteCount) + 4096)
    },
    SocketAttack("that wraps", "cannot be mapped") {
      try $0.announceOwn(address: .max - 4095, byteCount: UInt64($0.file.byteCount))
    },
    SocketAttack("over an earlier one", nil) {
      for _ in 0..<3 { try $0.announceOwn(byteCount: UInt64($0.file.byteCount)) }
    },
    SocketAttack("over the victim's own ring", nil) {
      // Where anything lies already, the kernel finds another place.
      try $0.announceOwn(
        address: $0.mapping.address, byteCount: UInt64($0.file.byteCount))
    },
    SocketAttack("in a file without seals", "cannot be mapped") {
      try $0.announceMemfd(seals: 0)
    },
    SocketAttack("in a file that may shrink", "cannot be mapped") {
      try $0.announceMemfd(seals: CInt(fabric_seal_grow))
    },
    SocketAttack("in a file that may grow", "cannot be mapped") {
      try $0.announceMemfd(seals: CInt(fabric_seal_shrink))
    },
    SocketAttack("in /dev/null", "cannot be mapped") {
      try $0.announce(try Descriptor.opening("/dev/null"), byteCount: 4096)
    },
    SocketAttack("in a regular file", "cannot be mapped") {
      let path = "/tmp/fabric-regular-\(getpid())"
      try Data(count: 4096).write(to: URL(filePath: path))
      defer { FileKind.remove(path) }
      try $0.announce(try Descriptor.opening(path), byteCount: 4096)
    },
    SocketAttack("in a descriptor that is no file", "cannot be mapped") {
      try $0.announce(try EventDescriptor().descriptor, byteCount: 4096)
    },
    SocketAttack("to be written by an isolated victim", "cannot be mapped") {
      try $0.announceOwn(byteCount: UInt64($0.file.byteCount), use: .writable)
    },
    SocketAttack("of keys for an isolated victim", "cannot be mapped") {
      try $0.announceOwn(byteCount: UInt64($0.file.byteCount), use: .keys)
    },
    SocketAttack("of 1 TiB and a page in all", "cannot be mapped") {
      let half = try MemoryFile(name: "hostile", byteCount: 1 << 39)
      try $0.announce(half.descriptor, address: 1 << 44, byteCount: 1 << 39)
      try $0.announce(half.descriptor, address: 2 << 44, byteCount: 1 << 39)
      try $0.announceOwn(address: 3 << 44, byteCount: UInt64($0.file.byteCount))
    },
    SocketAttack("of 1 TiB in all", nil) {
      let half = try MemoryFile(name: "hostile", byteCount: 1 << 39)
      try $0.announce(half.descriptor, address: 1 << 44, byteCount: 1 << 39)
      try $0.announce(half.descriptor, address: 2 << 44, byteCount: 1 << 39)
    },
  ]
}

extension HostilePeer {
  fileprivate var opening: ControlMessage.Opening {
    ControlMessage.Opening(
      segmentAddress: 0, segmentByteCount: mapping.byteCount, lineCount: Self.lineCount,
      isDirect: false, queuePairNumber: 1, privateData: [])
  }

  fileprivate func sendOpening(_ make: (ControlMessage.Opening) -> ControlMessage) throws {
    try socket.send(make(opening).bytes, descriptors: [file.descriptor.rawValue])
  }

  /// A goodbye, changed.
  fileprivate func send(_ change: (inout [UInt8]) -> Void) throws {
    var bytes = ControlMessage.goodbye.bytes
    change(&bytes)
    try socket.send(bytes)
  }

  /// Sends until the socket takes no more.
  fileprivate func flood(_ bytes: [UInt8]) {
    for _ in 0..<10_000 {
      do { try socket.send(bytes) } catch { return }
    }
  }

  fileprivate func announceOwn(
    address: UInt64 = 1 << 44, byteCount: UInt64, use: ControlMessage.SegmentUse = .readable
  ) throws {
    try announce(file.descriptor, address: address, byteCount: byteCount, use: use)
  }

  /// Memory with no other seals than these.
  fileprivate func announceMemfd(seals: CInt) throws {
    let file = try unsafe Descriptor(result: fabric_memfd_create("hostile"))
    try Errno.check { ftruncate(file.rawValue, 4096) }
    if seals != 0 { try Errno.check { fabric_add_seals(file.rawValue, seals) } }
    try announce(file, byteCount: 4096)
  }
}

@Suite("Shared-memory adapter: hostile sockets", .serialized)
struct HostileSocketTests {
  @Test(
    "SM-41, SM-42: a datagram that is none, or out of place, ends its own connection only",
    arguments: SocketAttack.datagrams)
  func datagrams(_ attack: SocketAttack) throws {
    let victim = try Victim()
    try victim.suffers(attack.testDescription, expecting: attack.words, attack.launch)
    victim.close()
  }

  @Test(
    "SM-1, SM-3: a segment that is no memory, or too much, ends its own connection only",
    arguments: SocketAttack.segments)
  func segments(_ attack: SocketAttack) throws {
    let victim = try Victim()
    try victim.suffers(attack.testDescription, expecting: attack.words, attack.launch)
    victim.close()
  }

  @Test("SM-3: one segment more than 1024 ends the connection")
  func manySegments() throws {
    let victim = try Victim()
    try victim.suffers("1025 segments", expecting: "cannot be mapped") { peer in
      let file = try MemoryFile(name: "hostile", byteCount: 4096)
      for index in 0..<1025 as Range<UInt64> {
        // A socket holds fewer than these.
        try victim.wait("there is room for an announcement") {
          do throws(Errno) {
            try peer.socket.send(
              ControlMessage.segment(
                address: 1 << 44 + index << 12, byteCount: 4096, use: .readable
              ).bytes, descriptors: [file.descriptor.rawValue])
            return true
          } catch { return false }
        }
      }
    }
    victim.close()
  }

  /// In a process of its own, where nobody else opens anything.
  @Test("SM-3, SM-42: attacks leave no descriptor and no map behind")
  func nothingLeft() async {
    await #expect(processExitsWith: .success) {
      let victim = try Victim()
      func attackAll() throws {
        for attack in SocketAttack.datagrams + SocketAttack.segments {
          try victim.suffers(attack.testDescription, expecting: attack.words, attack.launch)
        }
      }
      try attackAll()
      let before = (try descriptorCount(), try mapCount())
      for _ in 0..<3 { try attackAll() }
      let after = (try descriptorCount(), try mapCount())
      #expect(after == before)
    }
  }
}

private func descriptorCount() throws -> Int {
  try ProcessFiles.own.descriptors().count
}

/// Maps of memory files.
private func mapCount() throws -> Int {
  try ProcessFiles.own.maps().count { $0.contains("/memfd:") }
}
