import CAllocationCounter
import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricTCP
import FabricVerbs
import FabricWire
import Foundation
import Testing

/// Counts what comes, without growing anything.
private final class Counter: ChannelHandler {
  var messageCount = 0
  var finishedCount = 0
  var closed: ChannelCloseReason?

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    messageCount &+= messages.count
    for index in messages.indices {
      if let buffer = messages[index].buffer { channel.returnBuffer(buffer.id) }
    }
  }
  func channel(_ channel: Channel, finished tokens: Span<UInt64>) { finishedCount &+= tokens.count }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}

/// What a test of the hot path sends.
enum HotPathLoad: String, CaseIterable, Sendable {
  case messages, transfers, pushes

  /// Enough for every ring and counter to go round many times.
  func count(over fabric: HotPathFabric) -> Int {
    (self == .messages ? 1_000_000 : 100_000) / (fabric == .tcp ? 10 : 1)
  }
}

enum HotPathFabric: String, CaseIterable, Sendable {
  case sharedMemory, tcp

  func makeAdapter() throws -> any Adapter {
    switch self {
    case .sharedMemory: try SharedMemoryAdapter()
    case .tcp: try TCPAdapter()
    }
  }

  /// To listen at.
  var address: FabricAddress {
    switch self {
    case .sharedMemory:
      FabricAddress(
        fabric: "shm", endpoint: "/tmp/fabric-hot-\(getpid())-\(UInt32.random(in: 0 ... .max))")
    case .tcp: FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0")
    }
  }
}

/// A client and a server on one thread, and memory to push from and to.
private final class HotPath {
  let service: CompletionService
  let endpoints: [ChannelEndpoint]
  let handlers = [Counter(), Counter()]
  var client: Channel?
  let source: MemoryRegion
  let target: MemoryRegion
  let targetKey: RemoteKey

  init(_ fabric: HotPathFabric, _ indication: ChannelOptions.Indication) throws {
    let service = try CompletionService()
    self.service = service
    endpoints = try (0..<2).map { _ in
      try ChannelEndpoint(adapter: try fabric.makeAdapter(), service: service)
    }
    source = try endpoints[0].protectionDomain.allocate(byteCount: 4096, access: [])
    target = try endpoints[1].protectionDomain.allocate(
      byteCount: 4096, access: [.localWrite, .remoteWrite])
    targetKey = try #require(target.remoteKey)
    var options = ChannelOptions()
    options.indication = indication
    // Beats come while it warms up, too.
    options.heartbeat = .milliseconds(40)
    let (server, client) = (handlers[1], handlers[0])
    let listener = try endpoints[1].listen(
      at: fabric.address, options: options,
      accept: { _, _ in .accept(greeting: [], handler: server) })
    let address = try #require(listener.address)
    var result: Result<Channel, ChannelOpenError>?
    endpoints[0].connect(to: address, options: options, handler: client) { result = $0 }
    service.run(until: { result != nil }, deadline: .now + .seconds(10))
    self.client = try #require(result).get()
    listener.close()
  }

  deinit {
    for endpoint in endpoints { endpoint.close() }
    for _ in 0..<16 { service.turn() }
  }

  /// Long enough for what happens now and then (time-outs are looked at every 50 ms).
  func warmUp(_ load: HotPathLoad) {
    let end = MonotonicTime.now + .milliseconds(150)
    while MonotonicTime.now < end { run(load, count: 1000) }
  }

  /// Sends `count` of a kind and waits until all have come.
  func run(_ load: HotPathLoad, count: Int) {
    guard let client else { return }
    let data = source.element(byteCount: 4096)
    let end = handlers[1].messageCount &+ count
    let payload = unsafe WireView(source.bytes.baseAddress!, byteCount: 64)
    var sent = 0
    while handlers[1].messageCount != end && handlers[0].closed == nil {
      var batch = 0
      while batch < 16 && sent < count {
        let refusal: SendRefusal?
        switch load {
        case .messages: refusal = client.send(kind: 1, tag: 2, payload: payload)
        case .transfers:
          refusal = client.transfer(kind: 1, tag: 2, payload: payload, data: data, token: 3)
        case .pushes:
          refusal = client.push(
            data, to: target.address, key: targetKey, completing: 4, token: 5)
        }
        if refusal != nil { break }
        sent &+= 1
        batch &+= 1
      }
      client.flush()
      service.turn()
    }
  }
}

@Suite("Messaging: the hot path", .serialized)
struct HotPathTests {
  @Test(
    "CS-20: messages, transfers and pushes allocate nothing", arguments: HotPathFabric.allCases,
    HotPathLoad.allCases)
  func allocatesNothing(_ fabric: HotPathFabric, _ load: HotPathLoad) throws {
    let count = load.count(over: fabric)
    for indication in [ChannelOptions.Indication.automatic, .separate] {
      let path = try HotPath(fabric, indication)
      path.warmUp(load)
      var allocated: UInt64 = 0
      // What the run time makes once in a process is over in the second round at the latest.
      for _ in 0..<2 {
        let warm = path.handlers[1].messageCount
        let before = fabric_allocation_count()
        path.run(load, count: count)
        allocated = fabric_allocation_count() - before
        #expect(path.handlers[1].messageCount == warm + count)
        if allocated == 0 { break }
      }
      #expect(allocated == 0, "\(fabric), \(load), \(indication)")
    }
    // The counter counts.
    let before = fabric_allocation_count()
    let array = [UInt8](repeating: 1, count: count)
    #expect(fabric_allocation_count() > before && array.count > 0)
  }
}
