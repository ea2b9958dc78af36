import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire
import Testing

/// A host's end of a queue, as the controller sees it.
final class RecordingLink: ControllerLink {
  var answers: [(identifier: UInt16, status: Status, result: UInt64)] = []
  var hasEnded = false
  var forgottenCount = 0
  var counters = IOCounters()

  func answer(_ identifier: UInt16, _ status: Status, result: UInt64) {
    answers.append((identifier, status, result))
  }

  func forgetHeld() { forgottenCount += 1 }
  func end() { hasEnded = true }
}

/// A subsystem with volumes in memory, and a host's steps.
final class Bench {
  static let hostName = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
  let subsystem: NVMSubsystem
  let transport = QueueTransport(kind: .tcp, inCapsuleByteCount: 16 << 10)
  var now = MonotonicTime(nanoseconds: 1_000_000_000)

  init(
    volumes: [String] = ["disk"], _ change: (inout NVMSubsystem.Options) -> Void = { _ in }
  ) throws {
    var options = NVMSubsystem.Options()
    change(&options)
    subsystem = NVMSubsystem(options: options)
    for name in volumes { subsystem.add(try Self.volume(name)) }
  }

  static func volume(_ name: String, isReadOnly: Bool = false) throws -> Volume {
    Volume(
      name: name, store: try MemoryStore(byteCount: 1 << 20, isReadOnly: isReadOnly),
      identifier: VolumeIdentifier("01234567-89ab-4def-8123-456789abcdef"))
  }

  /// Connects a queue.
  func connect(
    queue: UInt16 = 0, size: UInt16 = 31, controller: UInt16 = 0xFFFF,
    subsystem name: String? = nil,
    host: String = hostName, identifier: UInt8 = 7, keepAlive: UInt32 = 0, format: UInt16 = 0,
    link: RecordingLink = RecordingLink(), from origin: [UInt8] = []
  ) throws(NVMSubsystem.Refusal) -> NVMSubsystem.ConnectedQueue {
    var command = Command(
      opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.connect))
    command.dword10 = UInt32(format) | UInt32(queue) << 16
    command.dword11 = UInt32(size)
    command.dword12 = keepAlive
    var data = [UInt8](repeating: 0, count: ConnectCommand.byteCount)
    for index in 0..<16 { data[index] = identifier }
    data[16] = UInt8(truncatingIfNeeded: controller)
    data[17] = UInt8(truncatingIfNeeded: controller >> 8)
    let target = Array((name ?? subsystem.options.name).utf8)
    data.replaceSubrange(256..<256 + target.count, with: target)
    let own = Array(host.utf8)
    data.replaceSubrange(512..<512 + own.count, with: own)
    return try withView(data) { view throws(NVMSubsystem.Refusal) in
      try subsystem.connect(command, data: view, link: link, over: transport, from: origin, at: now)
    }
  }

  /// A controller that is enabled.
  func controller(
    subsystem name: String? = nil, host: String = hostName, keepAlive: UInt32 = 0,
    link: RecordingLink = RecordingLink()
  ) throws -> Controller {
    let queue = try connect(subsystem: name, host: host, keepAlive: keepAlive, link: link)
    #expect(perform(queue.controller, propertySet(0x14, 0x460001)) == .done(.success))
    return queue.controller
  }

  func perform(_ controller: Controller, _ command: Command) -> AdminOutcome {
    controller.perform(command, data: nil, at: now)
  }

  func propertySet(_ offset: UInt32, _ value: UInt32) -> Command {
    var command = Command(
      opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    command.dword11 = offset
    command.dword12 = value
    return command
  }

  func propertyGet(_ offset: UInt32, isLong: Bool) -> Command {
    var command = Command(
      opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertyGet))
    command.dword10 = isLong ? 1 : 0
    command.dword11 = offset
    return command
  }

  func admin(
    _ opcode: UInt8, namespace: UInt32 = 0, _ dword10: UInt32 = 0, _ dword11: UInt32 = 0,
    _ dword12: UInt32 = 0, identifier: UInt16 = 0
  ) -> Command {
    var command = Command(opcode: opcode, identifier: identifier, namespace: namespace)
    command.dword10 = dword10
    command.dword11 = dword11
    command.dword12 = dword12
    return command
  }

  func identify(_ structure: UInt32, namespace: UInt32 = 0) -> Command {
    admin(Opcode.Admin.identify, namespace: namespace, structure)
  }

  func log(_ page: UInt32, byteCount: UInt32, offset: UInt32 = 0, keeps: Bool = false) -> Command {
    admin(
      Opcode.Admin.getLogPage, page | (keeps ? 1 << 15 : 0) | (byteCount / 4 - 1) << 16, 0, offset)
  }
}

/// Calls `body` with a view of `bytes`.
func withView<Value, Failure>(
  _ bytes: [UInt8], _ body: (WireView) throws(Failure) -> Value
) throws(Failure) -> Value {
  let place = UnsafeMutableRawPointer.allocate(byteCount: bytes.count + 1, alignment: 8)
  defer { unsafe place.deallocate() }
  unsafe place.copyMemory(from: bytes, byteCount: bytes.count)
  return try body(unsafe WireView(UnsafeRawPointer(place), byteCount: bytes.count))
}

extension AdminOutcome {
  /// The bytes of data; empty without.
  var bytes: [UInt8] { if case .data(let bytes) = self { bytes } else { [] } }
  var status: Status? { if case .done(let status, _) = self { status } else { nil } }
  var result: UInt64? { if case .done(_, let result) = self { result } else { nil } }
}

extension Array where Element == UInt8 {
  /// A little-endian number.
  func number(_ offset: Int, _ count: Int) -> UInt64 {
    self[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
  func text(_ offset: Int, _ count: Int) -> String {
    String(decoding: self[offset..<offset + count].prefix { $0 != 0 }, as: UTF8.self)
  }
}
