import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: death while connecting")
struct DeathTests {
  /// The listener's process ends before, or right after, it has taken the connection.
  @Test("SM-48: a listener that dies ends the attempt at once", arguments: [false, true])
  func listenerDies(_ accepts: Bool) throws {
    let path = "/tmp/fabric-death-\(getpid())-\(accepts)"
    var listener: SequencedSocket? = try SequencedSocket.listen(at: path)
    defer { FileKind.remove(path) }
    let client = try ConnectedPair.End(.isolated)
    try client.adapter.connect(
      client.queuePair, to: FabricAddress(fabric: "shm", endpoint: path), privateData: [],
      timeout: .seconds(30), events: client.events)
    var taken = accepts ? try listener?.accept() : nil
    #expect((taken != nil) == accepts)
    taken = nil
    listener = nil
    var error: ConnectError?
    let deadline = MonotonicTime.now + .seconds(1)
    while error == nil && MonotonicTime.now < deadline {
      if case .failed(_, let reason)? = client.events.poll() { error = reason }
    }
    guard case .unreachable? = error else {
      Issue.record("expected .unreachable within 1 s, got \(String(describing: error))")
      return
    }
    #expect(client.queuePair.state == .error)
    client.queuePair.destroy()
  }

  @Test("SM-40: a refusal is heard, also when it was sent before the hello was read")
  func refusalIsHeard() throws {
    let path = "/tmp/fabric-refusal-\(getpid())"
    let listener = try SequencedSocket.listen(at: path)
    defer { FileKind.remove(path) }
    let client = try ConnectedPair.End(.isolated)
    try client.adapter.connect(
      client.queuePair, to: FabricAddress(fabric: "shm", endpoint: path), privateData: [],
      timeout: .seconds(30), events: client.events)
    do {
      let taken = try #require(try listener.accept())
      try taken.send(ControlMessage.reject(Array("of another user".utf8)).bytes)
    }
    var error: ConnectError?
    let deadline = MonotonicTime.now + .seconds(5)
    while error == nil && MonotonicTime.now < deadline {
      if case .failed(_, let reason)? = client.events.poll() { error = reason }
    }
    #expect(error?.description.contains("of another user") == true, "\(String(describing: error))")
    client.queuePair.destroy()
  }

  /// A process that connects and dies without a word, or in the middle of its hello.
  @Test(
    "SM-42: a peer that dies at the door leaves nothing behind", arguments: [[], [1, 1, 0, 0]])
  func peerDiesAtTheDoor(_ bytes: [UInt8]) throws {
    let server = try ConnectedPair.End(.isolated)
    let path = "/tmp/fabric-door-\(getpid())-\(bytes.count)"
    let listener = try server.adapter.listen(
      at: FabricAddress(fabric: "shm", endpoint: path), events: server.events)
    let events = try #require(server.events as? EventChannel)
    #expect(events.sourceCount == 1)
    for _ in 0..<100 {
      let socket = try SequencedSocket.connect(to: path)
      if !bytes.isEmpty { try socket.send(bytes) }
      try server.pollEvents()
    }
    let deadline = MonotonicTime.now + .seconds(1)
    while events.sourceCount > 1 && MonotonicTime.now < deadline { try server.pollEvents() }
    #expect(events.sourceCount == 1, "peers that are gone are looked after still")
    listener.close()
  }
}

@Suite("Shared-memory adapter: versions")
struct VersionTests {
  /// A hello of version 9, by hand: the answer is a reject that says what was expected.
  @Test("a peer of another version is told which is wanted")
  func otherVersion() throws {
    let server = try ConnectedPair.End(.isolated)
    let path = "/tmp/fabric-version-\(getpid())"
    let listener = try server.adapter.listen(
      at: FabricAddress(fabric: "shm", endpoint: path), events: server.events)
    let socket = try SequencedSocket.connect(to: path)
    let file = try MemoryFile(name: "version", byteCount: 8192)
    var hello = [UInt8](repeating: 0, count: 32)
    hello[0] = 1
    hello[1] = 9
    hello.replaceSubrange(4..<8, with: Array("CFSM".utf8))
    try socket.send(hello, descriptors: [file.descriptor.rawValue])
    var words = ""
    let deadline = MonotonicTime.now + .seconds(2)
    while words.isEmpty && MonotonicTime.now < deadline {
      try server.pollEvents()
      unsafe withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { raw in
        if case .datagram(let count, _, _) = unsafe socket.receive(into: raw), count > 32 {
          words = unsafe String(decoding: raw[32..<count], as: UTF8.self)
        }
      }
    }
    #expect(
      words
        == "expected version 1 of the shared-memory protocol, got version 9: update the older side")
    listener.close()
  }
}
