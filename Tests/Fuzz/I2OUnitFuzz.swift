import FabricCompletion
import FabricI2O
import FabricMessaging
import FabricSimulated
import FabricStorage
import FabricVerbs
import FabricWire
import Foundation
import Synchronization

/// A unit whose host does as the input says, over a simulated fabric. Each step: a byte that says with
/// what, then a message, which a sound header may be put ahead of.
func fuzzI2OUnit(_ input: FuzzInput) {
  var input = input
  unsafe I2OBench.shared.run(&input)
}

private final class I2OBench: ChannelHandler {
  nonisolated(unsafe) static let shared = I2OBench()

  private let network = SimulatedNetwork(seed: 1)
  private let service: CompletionService
  private let server: I2OServer
  private let endpoint: ChannelEndpoint
  private let memory: MemoryRegion
  private let address = FabricAddress(fabric: "sim", endpoint: "unit")
  private var channel: Channel?
  private var isClosed = false

  private init() {
    do {
      let service = try CompletionService()
      self.service = service
      let layer = CommonLayer()
      try layer.add(Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)))
      var options = I2OServer.Options()
      options.depth = 8
      options.bufferCount = 2
      options.readBufferCount = 4
      options.maximumTransferByteCount = 8192
      let adapter = network.makeAdapter(name: "unit")
      // What waits for the service's thread, which is this one, runs on another.
      let made = Mutex<I2OServer?>(nil)
      let place = Place(made)
      Thread.detachNewThread { [options, address] in
        let server = try? I2OServer(
          layer: layer, service: service, adapter: adapter, addresses: [address], options: options)
        place.value.withLock { $0 = server }
      }
      var server: I2OServer?
      while server == nil {
        service.turn()
        server = place.value.withLock { $0 }
      }
      self.server = server!
      endpoint = try ChannelEndpoint(adapter: network.makeAdapter(name: "host"), service: service)
      memory = try endpoint.protectionDomain.allocate(
        byteCount: 1 << 16, access: [.localWrite, .remoteWrite])
    } catch {
      fatalError("\(error)")
    }
  }

  private final class Place: Sendable {
    let value: Mutex<I2OServer?>
    init(_ value: consuming sending Mutex<I2OServer?>) { self.value = value }
  }

  func run(_ input: inout FuzzInput) {
    channel = nil
    isClosed = false
    var options = ChannelOptions()
    options.bufferCount = 0
    options.messageByteCount = I2OServer.messageByteCount
    options.receiveCount = 16
    options.sendCount = 16
    options.greeting = I2OHostOpening(hostName: "fuzz").encoded()
    endpoint.connect(to: address, options: options, handler: self) { [self] in
      channel = try? $0.get()
    }
    for _ in 0..<1000 where channel == nil { settle() }
    guard channel != nil else { fatalError("no channel") }
    if input.byte() & 1 == 0 { send(outboundInit) }
    while !input.isEmpty, !isClosed { step(&input) }
    settle()
    channel?.close()
    for _ in 0..<2000 where endpoint.channelCount > 0 { settle() }
    require(endpoint.channelCount == 0, "a channel outlives its host")
  }

  private func step(_ input: inout FuzzInput) {
    let how = input.byte()
    if how & 0x80 != 0 { return settle() }
    let functions = I2O.Function.allCases
    let function = functions[Int(how & 0x0F) % functions.count]
    var frame = input.bytes(4 * input.number(below: 40))
    if how & 0x10 != 0 {
      let body = frame
      frame = [UInt8](repeating: 0, count: max(12, (15 + body.count) & ~3))
      for (index, byte) in body.enumerated() { frame[12 + index] = byte }
      frame[0] = 1 | function.listOffset << 4
      frame[2] = UInt8(frame.count / 4)
      frame[4] = how & 0x20 != 0 ? 8 : 0
      frame[5] = 0x10
      frame[7] = function.rawValue
    }
    send(frame, dataByteCount: how & 0x40 != 0 ? 256 * input.number(below: 33) : nil)
  }

  /// The host says that replies may come.
  private var outboundInit: [UInt8] {
    written(24 + 24) { buffer in
      buffer.clear()
      FrameHeader(.outboundInit, target: 0, wordCount: 12, listOffset: 6).encode(into: buffer)
      buffer.set(I2O.replyFrameWordCount, at: 22)
      var writer = ScatterListWriter(buffer.slice(24, 24))
      writer.attributes()
      writer.append(
        ScatterElement(at: memory.address, byteCount: 4, key: memory.remoteKey!), isOut: false,
        isLast: true)
    }
  }

  private func send(_ bytes: [UInt8], dataByteCount: Int? = nil) {
    guard let channel, channel.isOpen else { return }
    withExactView(bytes) { payload in
      if let dataByteCount {
        _ = channel.transfer(
          kind: I2O.messageKind, tag: 0, payload: payload,
          data: memory.element(offset: 0, byteCount: dataByteCount))
      } else {
        _ = channel.send(kind: I2O.messageKind, tag: 0, payload: payload)
      }
    }
    channel.flush()
  }

  /// Lets everything happen that will.
  private func settle() {
    repeat { service.turn() } while network.step()
    service.turn()
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      if message.isPushCompletion { continue }
      require(
        message.kind == I2O.messageKind && ReplyFrame.decode(message.payload) != nil,
        "a message of the unit's that is no reply")
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { isClosed = true }
}
