import FabricNVMe
import FabricWire

/// Commands as hosts send them, whatever the transport.
protocol HostCommands {
  /// Where they connect.
  var subsystemName: String { get }
}

extension HostCommands {
  func connectCommand(
    queue: UInt16 = 0, size: UInt16 = 63, keepAlive: UInt32 = 0, countsHead: Bool = true
  ) -> Command {
    var command = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.connect))
    command.data = .inCapsule(byteCount: UInt32(ConnectCommand.byteCount))
    command.dword10 = UInt32(queue) << 16
    command.dword11 = UInt32(size) | (countsHead ? 0 : 0b100 << 16)
    command.dword12 = keepAlive
    return command
  }

  func connectData(controller: UInt16 = 0xFFFF, subsystem: String? = nil) -> [UInt8] {
    var data = [UInt8](repeating: 0, count: ConnectCommand.byteCount)
    for index in 0..<16 { data[index] = 9 }
    data[16] = UInt8(truncatingIfNeeded: controller)
    data[17] = UInt8(truncatingIfNeeded: controller >> 8)
    for (offset, text) in [
      (256, subsystem ?? subsystemName), (512, "nqn.2024-01.org.example:host"),
    ] {
      data.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
    }
    return data
  }

  /// Sets the bit that enables a controller.
  func enableCommand() -> Command {
    var enable = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    enable.dword11 = 0x14
    enable.dword12 = 1
    return enable
  }

  /// An I/O command.
  func io(
    _ opcode: UInt8, block: UInt64 = 0, count: UInt32 = 1, identifier: UInt16 = 1,
    namespace: UInt32 = 1, data: DataPointer = DataPointer(low: 0, high: 0)
  ) -> Command {
    var command = Command(opcode: opcode, identifier: identifier, namespace: namespace)
    command.dword10 = UInt32(truncatingIfNeeded: block)
    command.dword11 = UInt32(truncatingIfNeeded: block >> 32)
    command.dword12 = count - 1
    command.data = data
    return command
  }
}

/// Calls `body` with a view of `bytes`.
func withView<Value>(_ bytes: [UInt8], _ body: (WireView) throws -> Value) rethrows -> Value {
  var copy = bytes
  copy.append(0)
  return try unsafe copy.withUnsafeBytes { raw in
    try body(unsafe WireView(raw.baseAddress!, byteCount: bytes.count))
  }
}

/// What `encode` writes to `byteCount` bytes of noise.
func encoded(_ byteCount: Int, _ encode: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xA5, count: byteCount)
  unsafe bytes.withUnsafeMutableBytes { raw in encode(unsafe WireBuffer(raw)) }
  return bytes
}

/// Bytes that differ by place and seed.
func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8 &+ seed) }
}
