import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricWire
import Glibc

/// NVMe/TCP with a host that does as the input says, over real sockets. Offset 0: bits 0 the rest are
/// bytes in place of ICReq, 1 bytes behind it, 2 PDUs of the admin queue, else of an I/O queue, 3 header
/// digests, 4 data digests. Then PDUs of the host.
///
/// Whatever comes: what the host may only read does not change, and a connection that the host ends
/// comes to its end.
func fuzzNVMe(_ input: FuzzInput) {
  var input = input
  unsafe NVMeBench.shared.run(&input)
}

private final class NVMeBench {
  nonisolated(unsafe) static let shared = NVMeBench()
  private static let byteCount = 1 << 20
  private static let hostName = "nqn.2024-01.org.channelfabric:fuzz"

  private let layer = CommonLayer()
  private let service: CompletionService
  private let target: NVMeTarget
  private let server: NVMeTCPServer
  private let address: InternetAddress
  private let fixed: MemoryStore
  private let subsystem = NVMSubsystem.Options().name

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
      server = try NVMeTCPServer(
        target, layer: layer, service: service,
        addresses: [.internet(try InternetAddress.resolve("127.0.0.1:0")[0])])
      guard case .internet(let address)? = server.addresses.first else { fatalError("no address") }
      self.address = address
    } catch {
      fatalError("\(error)")
    }
  }

  func run(_ input: inout FuzzInput) {
    let flags = input.byte()
    let host = FuzzedHost(address, headers: flags & 8 != 0, data: flags & 16 != 0)
    var admin: FuzzedHost?
    if flags & 1 == 0 {
      host.initialize()
      if flags & 2 == 0 {
        if flags & 4 != 0 {
          _ = host.connect(0xFFFF, queue: 0, subsystem, Self.hostName)
        } else {
          let other = FuzzedHost(address, headers: false, data: false)
          other.initialize()
          let number = other.connect(0xFFFF, queue: 0, subsystem, Self.hostName)
          other.enable()
          _ = host.connect(number, queue: 1, subsystem, Self.hostName)
          admin = other
        }
        while !input.isEmpty { step(host, &input) }
      }
    }
    host.send(input.remainder())
    host.finish()
    admin?.finish()
    check()
  }

  /// One PDU of the host's.
  private func step(_ host: FuzzedHost, _ input: inout FuzzInput) {
    let flags = input.byte()
    var data = [UInt8](repeating: 0x33, count: Int(input.byte()) << Int(flags >> 5))
    if flags & 1 != 0 {
      let transfer = PDU.Transfer(
        command: UInt16(input.byte()), tag: UInt16(input.byte()),
        offset: UInt32(input.byte()) << 6, byteCount: UInt32(data.count))
      host.send(host.hostData(transfer, data, isLast: flags & 2 != 0))
      return
    }
    var command = Command(
      opcode: input.byte(), identifier: UInt16(input.byte()), namespace: UInt32(input.byte()))
    command.dword10 = UInt32(input.byte()) | UInt32(input.byte()) << 16
    command.dword11 = UInt32(input.byte())
    command.dword12 = UInt32(input.byte()) | UInt32(flags & 0x18) << 27
    let byteCount = flags & 2 != 0 ? UInt32(data.count) : UInt32(input.byte()) << 8
    command.data =
      flags & 4 != 0 ? .transport(byteCount: byteCount) : .inCapsule(byteCount: byteCount)
    if flags & 4 != 0 { data = [] }
    host.send(host.capsule(command, data))
  }

  private func check() {
    guard let memory = fixed.directMemory else { fatalError("no memory") }
    let bytes = unsafe UnsafeRawBufferPointer(
      start: UnsafeRawPointer(bitPattern: UInt(memory.address)), count: Self.byteCount)
    require(unsafe bytes.allSatisfy { $0 == 0 }, "what may only be read was changed")
  }
}

/// A host's end of a connection.
private final class FuzzedHost {
  private let socket: StreamSocket
  private let usesHeaderDigest: Bool
  private let usesDataDigest: Bool
  private var isAgreed = false

  init(_ address: InternetAddress, headers: Bool, data: Bool) {
    usesHeaderDigest = headers
    usesDataDigest = data
    do { socket = try StreamSocket.connect(to: address) } catch { fatalError("\(error)") }
    wait(POLLOUT)
  }

  /// Until the socket has what is asked for, at most a second.
  private func wait(_ events: Int32) {
    var look = pollfd(fd: socket.number, events: Int16(events), revents: 0)
    _ = unsafe poll(&look, 1, 1000)
  }

  // An orderly end would leave the port in use for a minute.
  deinit { socket.reset() }

  /// As far as the unit takes it: it may have ended the connection.
  func send(_ bytes: [UInt8]) {
    var left = bytes[...]
    let limit = MonotonicTime.now + .seconds(5)
    while !left.isEmpty {
      switch socket.send(left) {
      case .bytes(let count): left = left.dropFirst(count)
      case .wouldBlock:
        // What the unit answers makes room.
        wait(POLLIN | POLLOUT)
        var thrownAway: [UInt8] = []
        _ = socket.receive(into: &thrownAway, limit: 1 << 16)
        require(MonotonicTime.now < limit, "the unit reads nothing any more")
      case .end, .failed: return
      }
    }
  }

  private func receive(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    let limit = MonotonicTime.now + .seconds(5)
    while bytes.count < count {
      switch socket.receive(into: &bytes, limit: count - bytes.count) {
      case .bytes: break
      case .wouldBlock:
        require(MonotonicTime.now < limit, "an honest host got no answer")
        wait(POLLIN)
      case .end, .failed: fatalError("an honest host was hung up on")
      }
    }
    return bytes
  }

  /// Ends this direction, and waits until the unit has ended the other.
  func finish() {
    socket.endInOrder()
    let limit = MonotonicTime.now + .seconds(5)
    while true {
      var bytes: [UInt8] = []
      switch socket.receive(into: &bytes, limit: 1 << 16) {
      case .bytes: break
      case .wouldBlock:
        require(MonotonicTime.now < limit, "a connection outlives its host")
        wait(POLLIN)
      case .end, .failed: return
      }
    }
  }

  // MARK: Honest steps

  func initialize() {
    var request = PDU.Initialize()
    request.usesHeaderDigest = usesHeaderDigest
    request.usesDataDigest = usesDataDigest
    send(written(PDU.initializeByteCount) { request.encode(.initializeRequest, into: $0) })
    _ = receive(PDU.initializeByteCount)
    isAgreed = true
  }

  func connect(_ controller: UInt16, queue: UInt16, _ subsystem: String, _ name: String) -> UInt16 {
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.connect))
    command.data = .inCapsule(byteCount: UInt32(ConnectCommand.byteCount))
    command.dword10 = UInt32(queue) << 16
    command.dword11 = 31
    var data = [UInt8](repeating: 1, count: 16)
    data += [UInt8(truncatingIfNeeded: controller), UInt8(truncatingIfNeeded: controller >> 8)]
    data += [UInt8](repeating: 0, count: ConnectCommand.byteCount - data.count)
    for (offset, text) in [(256, subsystem), (512, name)] {
      data.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
    }
    send(capsule(command, data))
    return response()
  }

  func enable() {
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    command.dword11 = 0x14
    command.dword12 = 1
    send(capsule(command, []))
    _ = response()
  }

  private func response() -> UInt16 {
    let bytes = receive(PDU.responseByteCount + (usesHeaderDigest ? PDU.digestByteCount : 0))
    let end = withExactView(bytes[8..<24]) { Completion($0) }
    require(end.status == .success, "an honest host was refused")
    return UInt16(truncatingIfNeeded: end.result)
  }

  // MARK: PDUs

  func capsule(_ command: Command, _ data: [UInt8]) -> [UInt8] {
    pdu(.command, PDU.commandByteCount, [], data) {
      command.encode(into: $0.slice(PDU.commonByteCount, Command.byteCount))
    }
  }

  func hostData(_ transfer: PDU.Transfer, _ data: [UInt8], isLast: Bool) -> [UInt8] {
    pdu(.hostData, PDU.dataByteCount, isLast ? .last : [], data) { transfer.encode(into: $0) }
  }

  private func pdu(
    _ kind: PDU.Kind, _ headerByteCount: Int, _ flags: PDU.Flags, _ data: [UInt8],
    _ fill: (WireBuffer) -> Void
  ) -> [UInt8] {
    let end = headerByteCount + (usesHeaderDigest ? PDU.digestByteCount : 0)
    let trailer = usesDataDigest && !data.isEmpty ? PDU.digestByteCount : 0
    var bytes = written(headerByteCount) { buffer in
      PDU.Common(
        kind, flags: flags, headerByteCount: headerByteCount, dataOffset: data.isEmpty ? 0 : end,
        byteCount: end + data.count + trailer
      ).encode(into: buffer)
      fill(buffer)
    }
    if usesHeaderDigest { bytes += sum(bytes) }
    return bytes + data + (trailer > 0 ? sum(data) : [])
  }

  private func sum(_ bytes: [UInt8]) -> [UInt8] {
    let sum = Checksum.of(bytes)
    return (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) }
  }
}
