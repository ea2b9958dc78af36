import ArgumentParser
import FabricCommandLine
import FabricIOProtocol
import FabricPlatform
import FabricStorage

struct Control: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "control",
    abstract: "Asks the unit something about a device's volume.",
    discussion: """
      identify says what the volume is, block-size the bytes of its blocks, rescan looks whether it \
      has grown, path-state says how good a path is, health how the volume has done. \
      set-block-size takes only what the volume has; sanitise is refused. A number, such as \
      0x80000001, is a vendor's call. What the unit refuses ends with code 74 and the system's \
      words.
      """)

  @Argument(help: "The device, such as /dev/loop3, or its name.") var device: String
  @Argument(
    help: ArgumentHelp(
      """
      identify, block-size, set-block-size, rescan, path-state, health, sanitise or a number.
      """, valueName: "call"))
  var call: String
  @Option(name: .long, help: ArgumentHelp("Bytes for the call, in hex.", valueName: "HEX"))
  var payload: String?
  @Option(name: .long, help: ArgumentHelp("Bytes of a block, for set-block-size.", valueName: "N"))
  var bytes: UInt32?
  @Option(
    name: .long, help: ArgumentHelp("The path to take, by its place from 0.", valueName: "N"))
  var path: Int?
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  private static let names: [(String, ControlCode)] = [
    ("identify", .identify), ("block-size", .blockSize), ("set-block-size", .setBlockSize),
    ("rescan", .rescan), ("path-state", .pathState), ("health", .health),
    ("sanitise", .sanitise),
  ]

  func run() async {
    await reporting {
      let code = try self.code()
      var bytes = try payloadBytes()
      guard (self.bytes == nil) || code == .setBlockSize else {
        throw ToolFailure(64, "expected --bytes with set-block-size only, got it with \(call)")
      }
      if code == .setBlockSize {
        guard let size = self.bytes, payload == nil else {
          throw ToolFailure(64, "expected --bytes N with set-block-size, such as --bytes 4096")
        }
        bytes = (0..<4).map { UInt8(truncatingIfNeeded: size >> ($0 * 8)) }
      }
      let living = try StateDirectory(stateDir).livingEntries()
      let entry = try Detach.entry(device, of: living)
      let answer = try entry.ask(
        ControlRequest("control", call: code.rawValue, payload: bytes, path: path), seconds: 30)
      try answer.check()
      guard let result = answer.result else {
        throw ToolFailure(69, "expected a result of \(entry.name), got something else")
      }
      if json { return Output.line(result.json.description) }
      guard result.errno == 0 else {
        throw ToolFailure(
          74,
          "expected the unit to do \(call), got \"\(Errno(rawValue: result.errno))\" "
            + "(\(result.errno))")
      }
      for line in try result.lines(of: code) { Output.line(line) }
    }
  }

  private func code() throws(ToolFailure) -> ControlCode {
    if let found = Self.names.first(where: { $0.0 == call }) { return found.1 }
    let number = call.hasPrefix("0x") ? UInt32(call.dropFirst(2), radix: 16) : UInt32(call)
    guard let number else {
      throw ToolFailure(
        64,
        "expected a call (\(Self.names.map(\.0).joined(separator: ", ")) or a number), got "
          + "\(call)")
    }
    return ControlCode(rawValue: number)
  }

  private func payloadBytes() throws(ToolFailure) -> [UInt8] {
    guard let payload else { return [] }
    let digits = Array(payload.utf8)
    let limit = ControlCall.maximumPayloadByteCount
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count - 1, by: 2) {
      let pair = String(decoding: digits[index...index + 1], as: UTF8.self)
      if pair.allSatisfy(\.isHexDigit), let byte = UInt8(pair, radix: 16) { bytes.append(byte) }
    }
    guard bytes.count * 2 == digits.count, bytes.count <= limit else {
      throw ToolFailure(
        64, "expected --payload of at most \(limit) bytes in hex, such as 00ff, got \(payload)")
    }
    return bytes
  }
}

extension ControlResult {
  var json: JSON {
    .object([
      ("errno", .whole(UInt64(UInt32(bitPattern: errno)))), ("result", .signed(Int64(result))),
      ("payload", .text(hex)),
    ])
  }

  private var hex: String {
    payload.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// What the unit said, for people.
  func lines(of code: ControlCode) throws -> [String] {
    switch code {
    case .identify:
      let identity = try ControlIdentity(decoding: payload)
      return [
        "unit      \(identity.unitName)", "volume    \(identity.volumeName)",
        "identity  \(identity.identifier)",
        "size      \(identity.blockCount) blocks of \(identity.blockByteCount) bytes",
        "rights    \(identity.access == .readWrite ? "read and write" : "read")",
      ]
    case .health:
      let health = try ControlHealth(decoding: payload)
      return [
        "reads     \(health.readCount), \(ByteSize.describe(health.readByteCount))",
        "writes    \(health.writeCount), \(ByteSize.describe(health.writtenByteCount))",
        "failures  \(health.mediaErrorCount) of the medium, \(health.flushFailureCount) of flushes",
        "seconds   \(health.secondsInService)",
      ]
    case .rescan:
      let count = payload.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      return [result == 1 ? "grown to \(count) blocks" : "\(count) blocks, as before"]
    case .pathState:
      return [PathState(rawValue: UInt8(clamping: result))?.description ?? "\(result)"]
    default: return ["\(result)"] + (payload.isEmpty ? [] : [hex])
    }
  }
}
