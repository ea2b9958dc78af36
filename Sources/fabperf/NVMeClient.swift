import CFabricLinux
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricWire

/// A small NVMe/TCP host that polls: an admin queue and one I/O queue, which reads blocks at random.
@safe
final class NVMeClient {
  /// Received at once.
  static let inputByteCount = 4 << 20

  private let admin: StreamSocket
  let queue: StreamSocket
  let depth: Int
  let input: UnsafeMutableRawPointer
  private let output: UnsafeMutableRawPointer
  private var outputByteCount = 0
  var random: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// Connects both queues.
  ///
  /// - Parameter depth: commands in flight.
  init(port: UInt16, subsystem: String, depth: Int) throws {
    self.depth = depth
    unsafe input = .allocate(byteCount: Self.inputByteCount, alignment: 4096)
    unsafe output = .allocate(byteCount: (depth + 1) * PDU.commandByteCount + 2048, alignment: 64)
    admin = try Self.open(port)
    queue = try Self.open(port)
    let controller = try connect(admin, queueNumber: 0, controller: 0xFFFF, subsystem)
    var enable = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    enable.dword11 = 0x14
    enable.dword12 = 0x46_0001
    _ = try run(enable, over: admin)
    _ = try connect(queue, queueNumber: 1, controller: controller, subsystem)
  }

  deinit {
    unsafe input.deallocate()
    unsafe output.deallocate()
  }

  private static func open(_ port: UInt16) throws -> StreamSocket {
    let socket = try StreamSocket.connect(to: InternetAddress.resolve("127.0.0.1:\(port)")[0])
    while socket.send([UInt8]()) != .bytes(0) || socket.connectError != nil {}
    socket.prepare(silence: .seconds(10))
    return socket
  }

  // MARK: Setting up

  private func connect(
    _ socket: StreamSocket, queueNumber: UInt16, controller: UInt16, _ subsystem: String
  ) throws -> UInt16 {
    PDU.Initialize().encode(.initializeRequest, into: room(PDU.initializeByteCount))
    try flush(socket)
    try receive(PDU.initializeByteCount, from: socket)
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.connect))
    command.data = .inCapsule(byteCount: UInt32(ConnectCommand.byteCount))
    command.dword10 = UInt32(queueNumber) << 16
    // The queue's head does not matter here.
    command.dword11 = UInt32(max(32, depth + 1)) | 0b100 << 16
    var data = [UInt8](repeating: 0, count: ConnectCommand.byteCount)
    data.replaceSubrange(0..<16, with: repeatElement(1, count: 16))
    data[16] = UInt8(truncatingIfNeeded: controller)
    data[17] = UInt8(truncatingIfNeeded: controller >> 8)
    for (offset, name) in [(256, subsystem), (512, "nqn.2024-01.org.channelfabric:fabperf")] {
      data.replaceSubrange(offset..<offset + name.utf8.count, with: Array(name.utf8))
    }
    return UInt16(truncatingIfNeeded: try run(command, data: data, over: socket))
  }

  /// Runs a command without data for us; returns its result.
  private func run(
    _ command: Command, data: [UInt8] = [], over socket: StreamSocket
  ) throws -> UInt64 {
    append(command, dataByteCount: data.count)
    if !data.isEmpty { room(data.count).copy(data, at: 0) }
    try flush(socket)
    try receive(PDU.responseByteCount, from: socket)
    let end = unsafe Completion(WireView(input + PDU.commonByteCount, byteCount: 16))
    guard end.status == .success else {
      throw Failure("the unit answered with status \(String(end.status.rawValue, radix: 16))")
    }
    return end.result
  }

  private func receive(_ count: Int, from socket: StreamSocket) throws {
    var got = 0
    while got < count {
      switch unsafe socket.receive(
        UnsafeMutableRawBufferPointer(start: input + got, count: count - got))
      {
      case .bytes(let more): got += more
      case .wouldBlock: continue
      case .end, .failed: throw Failure("the unit hung up")
      }
    }
  }

  // MARK: Output

  private func room(_ count: Int) -> WireBuffer {
    defer { outputByteCount += count }
    return unsafe WireBuffer(output + outputByteCount, byteCount: count)
  }

  func append(_ command: Command, dataByteCount: Int = 0) {
    let buffer = room(PDU.commandByteCount)
    PDU.Common(
      .command, headerByteCount: PDU.commandByteCount,
      dataOffset: dataByteCount == 0 ? 0 : PDU.commandByteCount,
      byteCount: PDU.commandByteCount + dataByteCount
    ).encode(into: buffer)
    command.encode(into: buffer.slice(PDU.commonByteCount, Command.byteCount))
  }

  func flush(_ socket: StreamSocket) throws {
    var sent = 0
    while sent < outputByteCount {
      switch unsafe socket.send(
        UnsafeRawBufferPointer(start: output + sent, count: outputByteCount - sent))
      {
      case .bytes(let count): sent += count
      case .wouldBlock: continue
      case .end, .failed: throw Failure("the unit hung up")
      }
    }
    outputByteCount = 0
  }
}
