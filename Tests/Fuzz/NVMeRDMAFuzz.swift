import FabricCompletion
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import FabricWire
import Glibc

/// NVMe over queue pairs with a host that does as the input says, by user-space iWARP over real sockets.
/// Offset 0: bits 0 the rest is private data in place of a host's, 1 capsules of the admin queue, else of an
/// I/O queue. Then capsules of the host.
///
/// Whatever comes: what the host may only read does not change, an honest host is served behind it, and a
/// connection that the host ends comes to its end.
func fuzzNVMeRDMA(_ input: FuzzInput) {
  var input = input
  unsafe NVMeRDMABench.shared.run(&input)
}

private final class NVMeRDMABench {
  nonisolated(unsafe) static let shared = NVMeRDMABench()
  private static let byteCount = 1 << 20

  private let layer = CommonLayer()
  private let service: CompletionService
  private let target: NVMeTarget
  private let server: NVMeRDMAServer
  private let fixed: MemoryStore

  private init() {
    do {
      fixed = try MemoryStore(byteCount: UInt64(Self.byteCount), isReadOnly: true)
      let volumes = [
        Volume(name: "fixed", store: fixed),
        Volume(name: "open", store: try MemoryStore(byteCount: UInt64(Self.byteCount))),
      ]
      for volume in volumes { try layer.add(volume) }
      var options = CompletionService.Options()
      options.threadCount = 1
      service = try CompletionService(options)
      target = try NVMeTarget(options: .init(), layer: layer, service: service, volumes: volumes)
      server = try NVMeRDMAServer(
        target, layer: layer, service: service, adapter: try TCPAdapter(),
        addresses: [FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0")])
    } catch {
      fatalError("\(error)")
    }
  }

  func run(_ input: inout FuzzInput) {
    let flags = input.byte()
    guard flags & 1 == 0 else {
      let host = FuzzedRDMAHost(server.addresses[0], privateData: input.bytes(56))
      return host.finish()
    }
    let admin = FuzzedRDMAHost(server.addresses[0], privateData: parameters(queue: 0))
    let number = admin.connect(0xFFFF, queue: 0)
    if flags & 2 != 0 {
      while !input.isEmpty { step(admin, &input) }
    } else {
      admin.enable()
      let host = FuzzedRDMAHost(server.addresses[0], privateData: parameters(queue: 1))
      _ = host.connect(number, queue: 1)
      while !input.isEmpty { step(host, &input) }
      host.finish()
    }
    admin.finish()
    guard let memory = fixed.directMemory else { fatalError("no memory") }
    let bytes = unsafe UnsafeRawBufferPointer(
      start: UnsafeRawPointer(bitPattern: UInt(memory.address)), count: Self.byteCount)
    require(unsafe bytes.allSatisfy { $0 == 0 }, "what may only be read was changed")
  }

  /// 32 receives, 32 sends.
  private func parameters(queue: UInt8) -> [UInt8] {
    [0, 0, queue, 0, 32, 0, 31, 0] + [UInt8](repeating: 0, count: 24)
  }

  /// One capsule.
  private func step(_ host: FuzzedRDMAHost, _ input: inout FuzzInput) {
    let flags = input.byte()
    if flags & 1 != 0 {
      return host.send(input.bytes(Int(input.byte())))
    }
    var command = Command(
      opcode: input.byte(), identifier: UInt16(input.byte()), namespace: UInt32(input.byte()))
    command.dword10 = UInt32(input.byte()) | UInt32(input.byte()) << 16
    command.dword11 = UInt32(input.byte())
    command.dword12 = UInt32(input.byte()) | UInt32(flags & 0x18) << 27
    let byteCount = UInt32(input.byte()) << (flags >> 4)
    let isKeyed = flags & 2 != 0
    switch (isKeyed, flags & 4 != 0) {
    case (true, let isWrong):
      command.data = host.data(
        byteCount: byteCount, offset: UInt64(input.byte()) << 6, isWrong: isWrong)
    case (false, false): command.data = .inCapsule(byteCount: byteCount)
    case (false, true):
      // A descriptor of whatever kind.
      command.data = DataPointer(low: 0, high: UInt64(byteCount) | UInt64(input.byte()) << 56)
    }
    let data = [UInt8](repeating: 0x33, count: isKeyed ? 0 : Int(min(byteCount, 5000)))
    host.send(written(Command.byteCount) { command.encode(into: $0) } + data)
  }
}

/// A host's end of a queue.
private final class FuzzedRDMAHost {
  private static let receiveCount = 32
  private static let dataOffset = 1 << 16
  private static let dataByteCount = 1 << 16

  private let domain: any ProtectionDomain
  private let queuePair: any QueuePair
  private let completionQueue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let memory: MemoryRegion
  private var isEstablished = false
  private var hasEnded = false
  private var ends: [Completion] = []
  private var sendCount = 0

  init(_ address: FabricAddress, privateData: [UInt8]) {
    do {
      let adapter = try TCPAdapter()
      domain = try adapter.makeProtectionDomain()
      completionQueue = try adapter.makeCompletionQueue(capacity: 1024)
      events = try adapter.makeEventChannel()
      queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: completionQueue,
          receiveCompletionQueue: completionQueue, receiveCapacity: Self.receiveCount))
      memory = try domain.allocate(
        byteCount: Self.dataOffset + Self.dataByteCount,
        access: [.localWrite, .remoteRead, .remoteWrite])
      for slot in 0..<Self.receiveCount { try postReceive(slot) }
      try adapter.connect(
        queuePair, to: address, privateData: privateData, timeout: .seconds(5), events: events)
    } catch { fatalError("\(error)") }
    wait { isEstablished || hasEnded }
  }

  deinit {
    queuePair.destroy()
    // What the completion queue holds of it goes with a poll.
    look()
    domain.deregister(memory)
  }

  private func postReceive(_ slot: Int) throws(PostError) {
    let element = memory.element(offset: slot * 16, byteCount: 16)
    try queuePair.postReceive(
      [ReceiveRequest(id: UInt64(slot), elements: ScatterGatherList(element))].span)
  }

  private func wait(_ condition: () -> Bool) {
    let limit = MonotonicTime.now + .seconds(10)
    while !condition() {
      look()
      require(MonotonicTime.now < limit, "the unit does not go on")
      sched_yield()
    }
  }

  private func look() {
    while let event = events.poll() {
      switch event {
      case .established: isEstablished = true
      case .failed, .disconnected: hasEnded = true
      case .connectRequest: break
      }
    }
    var completions = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    var space = completions.mutableSpan
    let count = completionQueue.poll(into: &space)
    for end in completions.prefix(count)
    where end.isReceive && end.status == .success {
      require(end.byteCount == 16, "the unit sent \(end.byteCount) bytes")
      let start = Int(end.id) * 16
      ends.append(
        withExactView(unsafe [UInt8](memory.bytes[start..<start + 16])) { Completion($0) })
      try? postReceive(Int(end.id))
    }
  }

  func data(byteCount: UInt32, offset: UInt64, isWrong: Bool) -> DataPointer {
    let key = memory.remoteKey?.rawValue ?? 0
    return .keyed(
      address: memory.address + UInt64(Self.dataOffset) + offset, byteCount: byteCount,
      key: isWrong ? ~key : key)
  }

  /// As far as the unit takes it: it may have ended the connection.
  func send(_ bytes: [UInt8]) {
    let offset = (8 << 10) + sendCount % 8 * (6 << 10)
    sendCount += 1
    for (index, byte) in bytes.enumerated() { unsafe memory.bytes[offset + index] = byte }
    let element = memory.element(offset: offset, byteCount: bytes.count)
    try? queuePair.postSend(
      [SendRequest(id: 1 << 32, opcode: .send, elements: ScatterGatherList(element))].span)
    look()
  }

  /// Ends the connection, and waits for that.
  func finish() {
    queuePair.disconnect()
    if isEstablished { wait { hasEnded } }
  }

  // MARK: Honest steps

  func connect(_ controller: UInt16, queue: UInt16) -> UInt16 {
    var bytes = [UInt8](repeating: 1, count: 16)
    bytes += [UInt8(truncatingIfNeeded: controller), UInt8(truncatingIfNeeded: controller >> 8)]
    bytes += [UInt8](repeating: 0, count: ConnectCommand.byteCount - bytes.count)
    for (offset, text) in [
      (256, NVMSubsystem.Options().name), (512, "nqn.2024-01.org.channelfabric:fuzz"),
    ] {
      bytes.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
    }
    for (index, byte) in bytes.enumerated() {
      unsafe memory.bytes[Self.dataOffset + index] = byte
    }
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.connect))
    command.data = data(byteCount: UInt32(ConnectCommand.byteCount), offset: 0, isWrong: false)
    command.dword10 = UInt32(queue) << 16
    command.dword11 = 31
    return answer(to: command)
  }

  func enable() {
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    command.dword11 = 0x14
    command.dword12 = 1
    _ = answer(to: command)
  }

  private func answer(to command: Command) -> UInt16 {
    send(written(Command.byteCount) { command.encode(into: $0) })
    wait { !ends.isEmpty }
    let end = ends.removeFirst()
    require(end.status == .success, "an honest host was refused: \(end.status)")
    return UInt16(truncatingIfNeeded: end.result)
  }
}
