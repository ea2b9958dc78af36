import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricWire
import Foundation
import Testing

/// Remembers what a channel told it.
final class Recorder: ChannelHandler {
  var messages: [(kind: UInt16, tag: UInt32, payload: [UInt8], data: [UInt8]?)] = []
  var pushed: [UInt32] = []
  var finished: [UInt64] = []
  var closed: ChannelCloseReason?
  var canSendCount = 0
  var onMessage: ((Channel, IncomingMessage) -> Void)?

  func channel(_ channel: Channel, received incoming: Span<IncomingMessage>) {
    for index in incoming.indices {
      let message = incoming[index]
      if message.isPushCompletion {
        pushed.append(message.tag)
        continue
      }
      var data: [UInt8]?
      if let buffer = message.buffer {
        data = unsafe Array(
          UnsafeRawBufferPointer(
            start: UnsafeRawPointer(bitPattern: UInt(buffer.address)), count: buffer.byteCount))
        channel.returnBuffer(buffer.id)
      }
      messages.append((message.kind, message.tag, message.payload.array, data))
      onMessage?(channel, message)
    }
  }
  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    for index in tokens.indices { finished.append(tokens[index]) }
  }
  func channelCanSend(_ channel: Channel) { canSendCount += 1 }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}

/// Two endpoints on one service, over real shared memory.
final class Pair {
  let service: CompletionService
  let server: ChannelEndpoint
  let client: ChannelEndpoint
  let serverHandler = Recorder()
  let clientHandler = Recorder()
  /// Who hears of the channels that come after the first.
  var nextHandler: any ChannelHandler = Recorder()
  var accepted: Channel?
  var connected: Result<Channel, ChannelOpenError>?
  let address: FabricAddress

  init(
    _ options: ChannelOptions = ChannelOptions(), serverOptions: ChannelOptions? = nil,
    decide: ((String) -> AcceptDecision?)? = nil, refused: @escaping (String) -> Void = { _ in }
  ) throws {
    service = try CompletionService()
    server = try ChannelEndpoint(adapter: try SharedMemoryAdapter(), service: service)
    client = try ChannelEndpoint(adapter: try SharedMemoryAdapter(), service: service)
    address = FabricAddress(
      fabric: "shm", endpoint: "/tmp/fabric-test-\(getpid())-\(UInt32.random(in: 0 ... .max))")
    let handler = serverHandler
    _ = try server.listen(
      at: address, options: serverOptions ?? options,
      accept: { [unowned self] greeting, peer in
        decide?(String(decoding: greeting, as: UTF8.self))
          ?? .accept(
            greeting: Array("welcome".utf8), handler: accepted == nil ? handler : nextHandler)
      },
      opened: { [unowned self] in accepted = $0 }, refused: { refused("\($0): \($1)") })
    client.connect(to: address, options: options, handler: clientHandler) {
      [unowned self] in connected = $0
    }
    try run { connected != nil }
  }

  /// Runs the service until `condition` holds; throws when it does not within 10 s.
  func run(_ condition: () -> Bool) throws {
    service.run(until: condition, deadline: .now + .seconds(10))
    try #require(condition(), "expected the condition to hold within 10 s")
  }

  func opened() throws -> Channel {
    try run { accepted != nil }
    return try #require(connected).get()
  }

  deinit {
    client.close()
    server.close()
    for _ in 0..<16 { _ = service.turn() }
  }
}

func view(_ bytes: [UInt8], _ body: (WireView) -> Void) {
  unsafe bytes.withUnsafeBytes { raw in
    if let base = raw.baseAddress {
      unsafe body(WireView(base, byteCount: raw.count))
    } else {
      var none: UInt8 = 0
      unsafe body(WireView(&none, byteCount: 0))
    }
  }
}

func options(_ indication: ChannelOptions.Indication) -> ChannelOptions {
  var options = ChannelOptions()
  options.indication = indication
  options.greeting = Array("hello".utf8)
  return options
}

@Suite(.serialized) struct ChannelTests {
  @Test("MS-3: opens with greetings both ways") func opensWithGreetingsBothWays() throws {
    let pair = try Pair(options(.automatic))
    let channel = try pair.opened()
    #expect(channel.peerGreeting == Array("welcome".utf8))
    #expect(pair.accepted?.peerGreeting == Array("hello".utf8))
  }

  @Test("MS-3: a refusal reaches the user in words") func refusalReachesTheUser() throws {
    let pair = try Pair(options(.automatic)) { .reject(reason: "no volume named \($0)") }
    #expect(throws: ChannelOpenError.refused("no volume named hello")) {
      try pair.connected?.get()
    }
  }

  @Test func nobodyListens() throws {
    let service = try CompletionService()
    let endpoint = try ChannelEndpoint(adapter: try SharedMemoryAdapter(), service: service)
    var result: Result<Channel, ChannelOpenError>?
    endpoint.connect(
      to: FabricAddress(fabric: "shm", endpoint: "/tmp/nobody-\(getpid())"), handler: Recorder()
    ) { result = $0 }
    #expect(throws: ChannelOpenError.self) { try result?.get() }
  }

  @Test(
    "MS-7, MS-8, MS-9: messages, transfers and pushes arrive in order",
    arguments: [ChannelOptions.Indication.automatic, .separate])
  func messagesTransfersAndPushesArriveInOrder(_ indication: ChannelOptions.Indication) throws {
    let pair = try Pair(options(indication))
    let channel = try pair.opened()
    let target = try pair.server.protectionDomain.allocate(
      byteCount: 65536, access: [.localWrite, .remoteWrite])
    let source = try pair.client.protectionDomain.allocate(byteCount: 65536, access: [])
    for index in 0..<65536 { unsafe source.bytes[index] = UInt8(truncatingIfNeeded: index &* 7) }
    view([1, 2, 3]) { #expect(channel.send(kind: 9, tag: 1, payload: $0) == nil) }
    view([4]) {
      #expect(
        channel.transfer(
          kind: 8, tag: 2, payload: $0, data: source.element(byteCount: 65536), token: 77) == nil)
    }
    #expect(
      channel.push(
        source.element(offset: 100, byteCount: 5000), to: target.address,
        key: try #require(target.remoteKey), completing: 3, token: 78) == nil)
    view([]) { #expect(channel.send(kind: 9, tag: 4, payload: $0) == nil) }
    channel.flush()
    let handler = pair.serverHandler
    try pair.run { handler.messages.count == 3 && pair.clientHandler.finished.count == 2 }
    #expect(handler.messages.map(\.tag) == [1, 2, 4])
    #expect(handler.messages[0].payload == [1, 2, 3])
    #expect(handler.messages[1].payload == [4])
    let sent = unsafe Array(source.bytes)
    let placed = unsafe Array(target.bytes[0..<5000])
    #expect(handler.messages[1].data == sent)
    #expect(handler.pushed == [3])
    #expect(placed == Array(sent[100..<5100]))
    #expect(pair.clientHandler.finished == [77, 78])
  }

  @Test(
    "MS-5, MS-6: a flood both ways stalls and resumes",
    arguments: [ChannelOptions.Indication.automatic, .separate])
  func floodBothWaysStallsAndResumes(_ indication: ChannelOptions.Indication) throws {
    var options = options(indication)
    options.receiveCount = 8
    options.sendCount = 8
    options.bufferCount = 2
    options.bufferByteCount = 4096
    let pair = try Pair(options)
    let client = try pair.opened()
    let server = try #require(pair.accepted)
    let source = try pair.client.protectionDomain.allocate(byteCount: 4096, access: [])
    let other = try pair.server.protectionDomain.allocate(byteCount: 4096, access: [])
    var sent = [0, 0]
    var refusals = 0
    let total = 5000
    func pour(_ side: Int, _ channel: Channel, _ data: ScatterGatherElement) {
      while sent[side] < total {
        var refusal: SendRefusal?
        view([UInt8(side)]) {
          refusal =
            sent[side] % 3 == 0
            ? channel.transfer(kind: 1, tag: UInt32(sent[side]), payload: $0, data: data)
            : channel.send(kind: 1, tag: UInt32(sent[side]), payload: $0)
        }
        if refusal != nil {
          refusals += 1
          break
        }
        sent[side] += 1
      }
      channel.flush()
    }
    try pair.run {
      pour(0, client, source.element)
      pour(1, server, other.element)
      return pair.serverHandler.messages.count == total
        && pair.clientHandler.messages.count == total
    }
    #expect(refusals > 0)
    #expect(pair.serverHandler.messages.map(\.tag) == (0..<UInt32(total)).map { $0 })
    #expect(pair.clientHandler.messages.map(\.tag) == (0..<UInt32(total)).map { $0 })
  }

  @Test("MS-10: what was sent before a close arrives") func closeDeliversWhatCameBefore() throws {
    let pair = try Pair(options(.automatic))
    let channel = try pair.opened()
    view([5]) { #expect(channel.send(kind: 1, tag: 1, payload: $0) == nil) }
    channel.close()
    try pair.run { pair.serverHandler.closed != nil && pair.clientHandler.closed != nil }
    #expect(pair.serverHandler.messages.count == 1)
    #expect(pair.serverHandler.closed == .peer)
    #expect(pair.clientHandler.closed == .local)
  }
}
