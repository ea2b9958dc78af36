import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: direct mode")
struct DirectModeTests {
  /// In direct mode the bytes are in place when the post returns, before the target polls; in
  /// isolated mode only the target puts them there.
  @Test(
    "SM-50, SM-51: who copies a write",
    arguments: [SharedMemoryOptions.Mode.isolated, .direct],
    [SharedMemoryOptions.Mode.isolated, .direct])
  func whoCopies(_ clientMode: SharedMemoryOptions.Mode, _ serverMode: SharedMemoryOptions.Mode)
    throws
  {
    let pair = try ConnectedPair(clientMode, serverMode)
    let target = try pair.server.domain.allocate(
      byteCount: 8192, access: [.localWrite, .remoteWrite])
    let source = try pair.client.domain.allocate(byteCount: 8192, access: [])
    unsafe source.bytes.initializeMemory(as: UInt8.self, repeating: 7)
    // The announcements have been taken.
    try pair.pollEvents()
    let key = try #require(target.remoteKey)
    let write = SendRequest(
      id: 1, opcode: .write, elements: ScatterGatherList(source.element),
      remoteAddress: target.address, remoteKey: key)
    try pair.client.queuePair.postSend([write].span)
    let isDirect = clientMode == .direct && serverMode == .direct
    #expect(unsafe target.bytes[8191] == (isDirect ? 7 : 0))
    try pair.run { pair.client.completions.count == 1 }
    #expect(pair.client.completions[0].status == .success)
    #expect(unsafe target.bytes[8191] == 7)

    // SM-31: a key that was taken away opens nothing, in either mode.
    pair.server.domain.revoke(key)
    unsafe source.bytes.initializeMemory(as: UInt8.self, repeating: 9)
    try pair.client.queuePair.postSend([write].span)
    #expect(unsafe target.bytes[0] == 7)
    try pair.run { pair.client.completions.count == 2 }
    #expect(pair.client.completions[1].status == .remoteAccessError)
    #expect(unsafe target.bytes[0] == 7)
    pair.close()
  }
}

/// Two ends of this process that have met.
final class ConnectedPair {
  /// Threads: `poll` is one thread's, and `pollEvents` one's.
  final class End: @unchecked Sendable {
    let adapter: SharedMemoryAdapter
    let domain: any ProtectionDomain
    let queue: any CompletionQueue
    let events: any ConnectionEventChannel
    let queuePair: any QueuePair
    var completions: [WorkCompletion] = []
    var isEstablished = false

    init(_ mode: SharedMemoryOptions.Mode) throws {
      adapter = try SharedMemoryAdapter(SharedMemoryOptions(mode: mode))
      domain = try adapter.makeProtectionDomain()
      queue = try adapter.makeCompletionQueue(capacity: 64)
      events = try adapter.makeEventChannel()
      queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
          sendCapacity: 8, receiveCapacity: 8))
    }

    func pollEvents() throws {
      while let event = events.poll() {
        switch event {
        case .connectRequest(let request):
          try request.accept(queuePair, privateData: [], events: events)
        case .established: isEstablished = true
        default: break
        }
      }
    }

    func poll() {
      var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 16)
      var space = buffer.mutableSpan
      let count = queue.poll(into: &space)
      completions += buffer[..<count]
    }
  }

  let client: End
  let server: End
  private let listener: any Listener
  var address: FabricAddress { listener.address }
  var path: String { address.endpoint }

  init(
    _ clientMode: SharedMemoryOptions.Mode = .isolated,
    _ serverMode: SharedMemoryOptions.Mode = .isolated
  ) throws {
    client = try End(clientMode)
    server = try End(serverMode)
    let path = "/tmp/fabric-pair-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    listener = try server.adapter.listen(
      at: FabricAddress(fabric: "shm", endpoint: path), events: server.events)
    try client.adapter.connect(
      client.queuePair, to: listener.address, privateData: [], timeout: .seconds(5),
      events: client.events)
    try run { client.isEstablished && server.isEstablished }
  }

  func pollEvents() throws {
    try client.pollEvents()
    try server.pollEvents()
  }

  /// Polls both ends until `condition` holds; fails when it does not within 5 s.
  func run(_ condition: () -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(5)
    while !condition() && MonotonicTime.now < deadline {
      try pollEvents()
      client.poll()
      server.poll()
    }
    try #require(condition(), "expected the condition to hold within 5 s")
  }

  func close() {
    client.queuePair.destroy()
    server.queuePair.destroy()
    listener.close()
  }
}
