import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@testable import FabricSharedMemory

/// What a listener answers to a hello, and words of the error that it must end in, at once.
struct ListenerAttack: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let words: String
  let answer: @Sendable (SequencedSocket) throws -> Void

  init(
    _ name: String, _ words: String, _ answer: @escaping @Sendable (SequencedSocket) throws -> Void
  ) {
    testDescription = name
    self.words = words
    self.answer = answer
  }

  private static func welcome(byteCount: Int = 8192, lineCount: Int = 64) -> [UInt8] {
    ControlMessage.welcome(
      ControlMessage.Opening(
        segmentAddress: 0, segmentByteCount: byteCount, lineCount: lineCount, isDirect: false,
        queuePairNumber: 1, privateData: [])
    ).bytes
  }

  static let all: [ListenerAttack] = [
    ListenerAttack("other words", "malformed") { try $0.send(Array("220 ready".utf8)) },
    ListenerAttack("another version", "malformed") { try $0.send([2, 9] + welcome()[2...]) },
    ListenerAttack("a hello", "out of place") { socket in
      let file = try MemoryFile(name: "hostile", byteCount: 8192)
      try socket.send([1] + welcome()[1...], descriptors: [file.descriptor.rawValue])
    },
    ListenerAttack("a welcome without memory", "out of place") { try $0.send(welcome()) },
    ListenerAttack("a ring of no power of two", "malformed") { socket in
      let file = try MemoryFile(name: "hostile", byteCount: 8192)
      try socket.send(
        welcome(byteCount: 4096 + 4096, lineCount: 63), descriptors: [file.descriptor.rawValue])
    },
    ListenerAttack("a ring longer than its file", "mapping the listener's memory") { socket in
      let file = try MemoryFile(name: "hostile", byteCount: 4096)
      try socket.send(welcome(), descriptors: [file.descriptor.rawValue])
    },
    ListenerAttack("a ring in /dev/null", "mapping the listener's memory") { socket in
      let file = try Descriptor.opening("/dev/null")
      try socket.send(welcome(), descriptors: [file.rawValue])
    },
    ListenerAttack("a goodbye", "out of place") { try $0.send(ControlMessage.goodbye.bytes) },
    ListenerAttack("memory before the welcome", "out of place") { socket in
      let file = try MemoryFile(name: "hostile", byteCount: 8192)
      try socket.send(
        ControlMessage.segment(address: 1 << 44, byteCount: 8192, use: .readable).bytes,
        descriptors: [file.descriptor.rawValue])
    },
    ListenerAttack("a reject with noise for words", "refused the connection") {
      try $0.send(ControlMessage.reject([UInt8](repeating: 0xff, count: 512)).bytes)
    },
  ]
}

@Suite("Shared-memory adapter: hostile listeners", .serialized)
struct HostileListenerTests {
  @Test(
    "SM-42: an answer that is none ends the attempt at once, with words",
    arguments: ListenerAttack.all)
  func answers(_ attack: ListenerAttack) throws {
    let path = "/tmp/fabric-answer-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    let listener = try SequencedSocket.listen(at: path)
    defer { FileKind.remove(path) }
    let client = try ConnectedPair.End(.isolated)
    try client.adapter.connect(
      client.queuePair, to: FabricAddress(fabric: "shm", endpoint: path), privateData: [],
      timeout: .seconds(30), events: client.events)
    let socket = try #require(try listener.accept())
    try attack.answer(socket)
    var error: ConnectError?
    let deadline = MonotonicTime.now + .seconds(5)
    while error == nil && MonotonicTime.now < deadline {
      if case .failed(_, let why)? = client.events.poll() { error = why }
    }
    let found = try #require(error, "the attempt did not end within 5 s")
    #expect(found.description.contains(attack.words), "\(found)")
    #expect(client.queuePair.state == .error)
    client.queuePair.destroy()
  }

  @Test(
    "SM-1: a hello whose segment is no memory is refused by the accept, and nothing else happens")
  func badSegmentInHello() throws {
    let victim = try Victim()
    for number in [try Descriptor.opening("/dev/null").release(), try unsealed().release()] {
      let file = Descriptor(owning: number)
      let socket = try SequencedSocket.connect(to: victim.path)
      let opening = ControlMessage.Opening(
        segmentAddress: 0, segmentByteCount: 8192, lineCount: 64, isDirect: false,
        queuePairNumber: 1, privateData: [])
      try socket.send(ControlMessage.hello(opening).bytes, descriptors: [file.rawValue])
      #expect(throws: ConnectError.self) {
        try victim.wait("the hello is accepted") {
          try victim.pollEvents()
          return false
        }
      }
    }
    try victim.suffers("nothing", expecting: nil) { _ in }
    victim.close()
  }

  private func unsealed() throws -> Descriptor {
    let path = "/tmp/fabric-unsealed-ring-\(getpid())"
    try Data(count: 8192).write(to: URL(filePath: path))
    defer { FileKind.remove(path) }
    return try Descriptor.opening(path)
  }
}
