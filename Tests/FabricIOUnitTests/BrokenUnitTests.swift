import FabricCompletion
import FabricHostDriver
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("A unit that breaks every connection", .untilStuck)
struct BrokenUnitTests {
  @Test("IO-37: connections that break before they were of use are failed attempts, and time out")
  func attempts() throws {
    let scratch = try Scratch()
    let service = try CompletionService()
    let unit = try BrokenUnit(at: scratch.file("unit.sock"), on: service)
    var options = RemoteVolumeQueue.Options()
    options.timeout = .seconds(1)
    let host = try TestHost(
      VolumeAddress(unit: unit.address, volumeName: "m"), options: options, service: service)
    #expect(host.run { host.isAttached })
    #expect(host.perform(.read, 0, 1)?.status == .aborted)
    guard case .timedOut? = host.failure else {
      Issue.record("expected a time-out, got \(host.states)")
      return
    }
    // 50, 100, 200, 400 and 800 ms apart, or a quarter less, and the first two at once.
    #expect(2...9 ~= unit.connectionCount)
    #expect(host.lines.values.contains { $0.hasPrefix("attempt 2, next in ") })
  }
}

/// Accepts every host, says that it is ready, and hangs up at the first command.
private final class BrokenUnit: ChannelHandler {
  let address: FabricAddress
  private let endpoint: ChannelEndpoint
  private(set) var connectionCount = 0

  init(at path: String, on service: CompletionService) throws {
    address = FabricAddress(fabric: "shm", endpoint: path)
    endpoint = try ChannelEndpoint(adapter: try SharedMemoryAdapter(), service: service)
    let greeting = try UnitOpening(
      unitName: "broken", volume: VolumeIdentifier.random(), blockByteCount: 4096, blockCount: 16,
      access: .readWrite, maximumTransferByteCount: 65536, depth: 8
    ).encoded()
    _ = try endpoint.listen(
      at: address,
      accept: { [unowned self] _, _ in .accept(greeting: greeting, handler: self) },
      opened: { [unowned self] channel in ready(channel) })
  }

  private func ready(_ channel: Channel) {
    connectionCount += 1
    unsafe withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { raw in
      let nothing = unsafe WireView(raw.baseAddress!, byteCount: 0)
      _ = channel.send(kind: MessageKind.ready.rawValue, tag: 0, payload: nothing)
    }
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) { channel.close() }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {}

  deinit { endpoint.close() }
}
