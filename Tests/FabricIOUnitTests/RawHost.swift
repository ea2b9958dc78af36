import FabricCompletion
import FabricIOProtocol
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import FabricWire

/// A host that says whatever a test wants, run by the test's thread.
final class RawHost: ChannelHandler {
  let service: CompletionService
  let endpoint: ChannelEndpoint
  var channel: Channel?
  var refusal: ChannelOpenError?
  var isReady = false
  var responses: [ResponseCapsule] = []
  var fenceAnswers: [FenceAnswer] = []
  var pathStates: [PathState] = []
  var pushedTags: [UInt32] = []
  var closeReason: ChannelCloseReason?

  /// Connects with `greeting` and waits until that has ended.
  init(
    _ unit: TestUnit, greeting: [UInt8], key: (any ChannelKey)? = nil,
    service shared: CompletionService? = nil
  ) throws {
    service = try shared ?? CompletionService()
    endpoint = try ChannelEndpoint(adapter: SharedMemoryAdapter(), service: service)
    var options = ChannelOptions()
    options.bufferCount = 0
    options.greeting = greeting
    options.key = key
    endpoint.connect(to: unit.server.address, options: options, handler: self) { [weak self] in
      switch $0 {
      case .success(let channel): self?.channel = channel
      case .failure(let error): self?.refusal = error
      }
    }
    run { channel != nil || refusal != nil }
  }

  convenience init(
    _ unit: TestUnit, volume: String, session: HostOpening.SessionIdentifier = .random(),
    epoch: UInt32 = 1, number: UInt8 = 0, depth: UInt16 = 16,
    service: CompletionService? = nil
  ) throws {
    try self.init(
      unit,
      greeting: HostOpening(
        volumeName: volume, hostName: "raw", session: session, epoch: epoch, number: number,
        depth: depth
      ).encoded(), service: service)
  }

  deinit {
    endpoint.close()
    service.turn()
  }

  @discardableResult
  func run(_ limit: Duration = .seconds(5), until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  /// Sends `bytes` as a message.
  func send(kind: UInt16, tag: UInt32, _ bytes: [UInt8], data: ScatterGatherElement? = nil) {
    var copy = bytes
    copy.append(0)
    unsafe copy.withUnsafeBytes { raw in
      let payload = unsafe WireView(raw.baseAddress!, byteCount: bytes.count)
      if let data {
        channel?.transfer(kind: kind, tag: tag, payload: payload, data: data)
      } else {
        channel?.send(kind: kind, tag: tag, payload: payload)
      }
    }
    channel?.flush()
  }

  /// Asks for another connection to be fenced.
  func fence(_ name: ConnectionName, tags: [RequestTag] = []) {
    send(
      kind: MessageKind.fence.rawValue, tag: 0, FenceRequest(name, tags: tags).encoded())
  }

  /// Sends a command, changed by `change` after it was written down.
  func send(
    _ command: CommandCapsule, data: ScatterGatherElement? = nil,
    _ change: (inout [UInt8]) -> Void = { _ in }
  ) {
    var bytes = [UInt8](repeating: 0, count: 64)
    unsafe bytes.withUnsafeMutableBytes { command.encode(into: unsafe WireBuffer($0)) }
    change(&bytes)
    send(kind: MessageKind.command.rawValue, tag: command.tag.rawValue, bytes, data: data)
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      if message.isPushCompletion {
        pushedTags.append(message.tag)
      } else if message.kind == MessageKind.ready.rawValue {
        isReady = true
      } else if message.kind == MessageKind.fenced.rawValue,
        let answer = try? FenceAnswer(decoding: message.payload)
      {
        fenceAnswers.append(answer)
      } else if message.kind == MessageKind.pathState.rawValue,
        let notice = try? PathStateNotice(decoding: message.payload)
      {
        pathStates.append(notice.state)
      } else if let response = try? ResponseCapsule(decoding: message.payload) {
        responses.append(response)
      }
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closeReason = reason }
}
