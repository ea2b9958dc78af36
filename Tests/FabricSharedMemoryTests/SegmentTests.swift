import FabricVerbs
import Foundation
import Synchronization
import Testing

@testable import FabricPlatform
@testable import FabricSharedMemory

@Suite("Shared-memory adapter: segments and sockets")
struct SegmentTests {
  @Test("SM-1: a sealed segment is mapped for reading only, and only at its own size")
  func seals() throws {
    let file = try MemoryFile(name: "segment", byteCount: 8192)
    let owners = try file.map(.readWrite)
    try file.sealWrites()
    unsafe owners.bytes[0] = 5
    var memory = PeerMemory()
    #expect(throws: Errno.self) {
      try memory.add(file.descriptor.duplicate(), address: 0, byteCount: 8192, use: .writable)
    }
    #expect(throws: Errno.self) {
      try memory.add(file.descriptor.duplicate(), address: 0, byteCount: 4096, use: .readable)
    }
    try memory.add(file.descriptor.duplicate(), address: 0, byteCount: 8192, use: .readable)
    #expect(memory.translate(8191, 1) != nil && memory.translate(8191, 2) == nil)
  }

  @Test("SM-2: an address that is no place for a segment is translated")
  func addresses() throws {
    let file = try MemoryFile(name: "segment", byteCount: 4096)
    var memory = PeerMemory()
    try memory.add(file.descriptor.duplicate(), address: 4096, byteCount: 4096, use: .readable)
    let place = try #require(memory.translate(4096 + 8, 8))
    #expect(place > 1 << 16)
    memory.remove(address: 4096)
    #expect(memory.translate(4096 + 8, 8) == nil)
  }

  @Test("SM-3: a peer shares no more than 1024 segments")
  func limits() throws {
    let file = try MemoryFile(name: "segment", byteCount: 4096)
    var memory = PeerMemory()
    for index in 0..<1024 as Range<UInt64> {
      try memory.add(
        file.descriptor.duplicate(), address: index << 12, byteCount: 4096, use: .readable)
    }
    #expect(throws: Errno.self) {
      try memory.add(file.descriptor.duplicate(), address: 0, byteCount: 4096, use: .readable)
    }
  }

  @Test("SM-5: the words of a queue segment lie where they are said to lie")
  func queueSegment() throws {
    let file = try MemoryFile(name: "queue", byteCount: QueueSegment.byteCount(lineCount: 8))
    let mapping = try file.map(.readWrite)
    let segment = QueueSegment(mapping, lineCount: 8)
    segment.consumed.store(1)
    segment.failure.store(2)
    segment.armedForReceives.store(3)
    segment.armedForSends.store(4)
    segment.readsDone.store(5)
    segment.copying.store(6)
    let bytes = [64, 128, 192, 256, 320, 384].map { unsafe mapping.bytes[$0] }
    #expect(bytes == [1, 2, 3, 4, 5, 6])
    #expect(unsafe segment.line(9) == mapping.bytes.baseAddress! + 4096 + 64)
  }

  @Test("SM-20: a record's fields are a copy, which the peer cannot change afterwards")
  func fieldsAreACopy() throws {
    let file = try MemoryFile(name: "queue", byteCount: QueueSegment.byteCount(lineCount: 8))
    let mapping = try file.map(.readWrite)
    let line = unsafe QueueSegment(mapping, lineCount: 8).line(0)
    unsafe SharedWord64(at: line + 16).store(0x1234)
    let fields = unsafe RecordFields(copying: line)
    unsafe SharedWord64(at: line + 16).store(0x5678)
    #expect(fields.remoteAddress == 0x1234)
  }

  @Test("SM-40: strangers are let in only where anybody is")
  func users() throws {
    let path = "/tmp/fabric-user-\(getpid())"
    let listener = try SequencedSocket.listen(at: path)
    defer { FileKind.remove(path) }
    let peer = try SequencedSocket.connect(to: path).peerCredentials()
    _ = listener
    #expect(SharedMemoryOptions().allows(peer))
    let stranger = SequencedSocket.PeerCredentials(
      processID: peer.processID, userID: 4_000_000, groupID: peer.groupID)
    #expect(!SharedMemoryOptions().allows(stranger))
    #expect(SharedMemoryOptions(peers: .anyUser).allows(stranger))
  }

  @Test("SM-44: a peer that does not read its socket fails the connection, and nobody blocks")
  func unreadSocket() throws {
    let pair = try ConnectedPair()
    let queuePair = try #require(pair.client.queuePair as? SharedMemoryQueuePair)
    for _ in 0..<8192 { queuePair.connection.send(.withdraw(address: 1)) }
    #expect(queuePair.state == .error)
    pair.close()
  }

  @Test("SM-47: a socket left behind is taken over, one in use and a file are not")
  func leftSocket() throws {
    let path = "/tmp/fabric-left-\(getpid())"
    let address = FabricAddress(fabric: "shm", endpoint: path)
    let end = try ConnectedPair.End(.isolated)
    var dead: SequencedSocket? = try SequencedSocket.listen(at: path)
    #expect(dead != nil && FileKind.isSocket(path))
    #expect(throws: ConnectError.self) { try end.adapter.listen(at: address, events: end.events) }
    dead = nil
    let listener = try end.adapter.listen(at: address, events: end.events)
    listener.close()
    #expect(!FileKind.isSocket(path))
    try Data("mine".utf8).write(to: URL(filePath: path))
    defer { FileKind.remove(path) }
    #expect(throws: ConnectError.self) { try end.adapter.listen(at: address, events: end.events) }
    #expect(try Data(contentsOf: URL(filePath: path)) == Data("mine".utf8))
  }

  @Test("SM-47: a listener whose socket was replaced leaves the other's alone")
  func replacedSocket() throws {
    let path = "/tmp/fabric-replaced-\(getpid())"
    let address = FabricAddress(fabric: "shm", endpoint: path)
    let end = try ConnectedPair.End(.isolated)
    let first = try end.adapter.listen(at: address, events: end.events)
    FileKind.remove(path)
    let second = try end.adapter.listen(at: address, events: end.events)
    first.close()
    #expect(FileKind.isSocket(path))
    _ = try SequencedSocket.connect(to: path)
    second.close()
    #expect(!FileKind.isSocket(path))
  }

  @Test("SM-47: of many who find a socket left behind, one takes it over")
  func contendedSocket() async throws {
    let path = "/tmp/fabric-contended-\(getpid())"
    let address = FabricAddress(fabric: "shm", endpoint: path)
    for _ in 0..<50 {
      _ = try SequencedSocket.listen(at: path)
      #expect(FileKind.isSocket(path))
      let ends = try (0..<4).map { _ in try ConnectedPair.End(.isolated) }
      let listeners = Mutex<[any Listener]>([])
      DispatchQueue.concurrentPerform(iterations: ends.count) { index in
        let end = ends[index]
        if let listener = try? end.adapter.listen(at: address, events: end.events) {
          listeners.withLock { $0.append(listener) }
        }
      }
      try #require(listeners.withLock { $0.count } == 1)
      listeners.withLock { $0.removeAll() }
      #expect(!FileKind.isSocket(path))
    }
  }

  @Test("SM-47: while another holds the directory's lock nothing is taken over")
  func lockedDirectory() throws {
    let path = "/tmp/fabric-locked-\(getpid())"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let address = FabricAddress(fabric: "shm", endpoint: path + "/s")
    let end = try ConnectedPair.End(.isolated)
    _ = try SequencedSocket.listen(at: address.endpoint)
    do {
      let lock = try DirectoryLock(around: address.endpoint, patience: .zero)
      #expect(throws: ConnectError.self) {
        _ = try end.adapter.listen(at: address, events: end.events)
      }
      _ = consume lock
    }
    try end.adapter.listen(at: address, events: end.events).close()
    #expect(!FileKind.isSocket(address.endpoint))
  }
}
