import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricWire
import TestSupport
import Testing

/// A subsystem that is reached at a TCP port of its own.
final class TCPUnit: NVMeUnit {
  private(set) var server: NVMeTCPServer!

  /// - Parameters: as `NVMeUnit`'s.
  override init(
    _ stores: [(name: String, store: any Store)]? = nil, spin: Duration = .microseconds(50),
    _ change: (inout FrontEndOptions) -> Void = { _ in }
  ) throws {
    try super.init(stores, spin: spin, change)
    server = try NVMeTCPServer(
      target, layer: layer, service: service,
      addresses: [.internet(try InternetAddress.resolve("127.0.0.1:0")[0])], options: options)
    stops.append { [server] in server?.stop() }
  }

  var address: InternetAddress {
    get throws {
      try #require(
        server.addresses.compactMap {
          if case .internet(let address) = $0 { address } else { nil }
        }.first)
    }
  }
}

/// A host's end of a connection that knows the protocol's bytes and nothing else.
final class TCPHost: HostCommands {
  let client: PlainClient
  var usesHeaderDigest = false
  var usesDataDigest = false
  /// The admin queue, without which an I/O queue ends.
  var admin: TCPHost?
  let subsystemName: String

  convenience init(_ unit: TCPUnit) throws {
    try self.init(at: unit.address, subsystem: unit.name)
  }

  init(at address: InternetAddress, subsystem: String) throws {
    client = try PlainClient(address)
    subsystemName = subsystem
  }

  struct Received {
    var common: PDU.Common
    /// All of the PDU's header.
    var header: [UInt8]
    var data: [UInt8]
    var completion: Completion { withView(Array(header[8..<24])) { Completion($0) } }
    var transfer: PDU.Transfer { withView(header) { PDU.Transfer($0) } }
    var kind: PDU.Kind? { PDU.Kind(rawValue: common.kind) }
  }

  /// ICReq, and the answer.
  @discardableResult
  func initialize(
    headerDigest: Bool = false, dataDigest: Bool = false, alignment: UInt8 = 0
  ) throws -> PDU.Initialize {
    var request = PDU.Initialize()
    request.usesHeaderDigest = headerDigest
    request.usesDataDigest = dataDigest
    request.alignment = alignment
    try client.send(encoded(128) { request.encode(.initializeRequest, into: $0) })
    let answer = try client.receive(128)
    #expect(answer[0] == 1 && answer[2] == 128 && answer[4] == 128)
    usesHeaderDigest = headerDigest
    usesDataDigest = dataDigest
    return withView(answer) { PDU.Initialize($0) }
  }

  /// A capsule, with its data in it.
  func capsule(_ command: Command, data: [UInt8] = [], offset: Int? = nil) -> [UInt8] {
    let digest = usesHeaderDigest ? 4 : 0
    let start = data.isEmpty ? 0 : offset ?? (72 + digest)
    let byteCount =
      data.isEmpty ? 72 + digest : start + data.count + (usesDataDigest ? 4 : 0)
    var flags: PDU.Flags = usesHeaderDigest ? .headerDigest : []
    if !data.isEmpty && usesDataDigest { flags.insert(.dataDigest) }
    var bytes = encoded(72) { buffer in
      PDU.Common(
        .command, flags: flags, headerByteCount: 72, dataOffset: start, byteCount: byteCount
      ).encode(into: buffer)
      command.encode(into: buffer.slice(8, 64))
    }
    if usesHeaderDigest { bytes += sum(bytes) }
    guard !data.isEmpty else { return bytes }
    bytes += [UInt8](repeating: 0, count: start - bytes.count) + data
    return usesDataDigest ? bytes + sum(data) : bytes
  }

  /// H2CData.
  func hostData(_ transfer: PDU.Transfer, _ data: [UInt8], isLast: Bool) -> [UInt8] {
    let digest = usesHeaderDigest ? 4 : 0
    var flags: PDU.Flags = isLast ? .last : []
    if usesHeaderDigest { flags.insert(.headerDigest) }
    if usesDataDigest { flags.insert(.dataDigest) }
    var bytes = encoded(24) { buffer in
      PDU.Common(
        .hostData, flags: flags, headerByteCount: 24, dataOffset: 24 + digest,
        byteCount: 24 + digest + data.count + (usesDataDigest ? 4 : 0)
      ).encode(into: buffer)
      transfer.encode(into: buffer)
    }
    if usesHeaderDigest { bytes += sum(bytes) }
    return bytes + data + (usesDataDigest ? sum(data) : [])
  }

  func sum(_ bytes: [UInt8]) -> [UInt8] {
    let sum = Checksum.of(bytes)
    return (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) }
  }

  /// The next PDU, whose digests must be right.
  func receive() throws -> Received {
    let start = try client.receive(8)
    let common = withView(start) { PDU.Common($0) }
    let rest = try client.receive(Int(common.byteCount) - 8)
    let all = start + rest
    let headerEnd = Int(common.headerByteCount)
    if common.flags.contains(.headerDigest) {
      #expect(Array(all[headerEnd..<headerEnd + 4]) == sum(Array(all[..<headerEnd])))
    }
    var data: [UInt8] = []
    if common.dataOffset > 0 {
      let hasDigest = common.flags.contains(.dataDigest)
      data = Array(all[Int(common.dataOffset)..<all.count - (hasDigest ? 4 : 0)])
      if hasDigest { #expect(Array(all.suffix(4)) == sum(data)) }
    }
    return Received(common: common, header: Array(all[..<headerEnd]), data: data)
  }

  /// Sends a command, and returns its end.
  func run(_ command: Command, data: [UInt8] = []) throws -> Received {
    try client.send(capsule(command, data: data))
    return try receive()
  }

  /// Connects a queue; returns the controller's number.
  @discardableResult
  func connect(
    queue: UInt16 = 0, controller: UInt16 = 0xFFFF, size: UInt16 = 63, keepAlive: UInt32 = 0,
    countsHead: Bool = true, subsystem: String? = nil
  ) throws -> UInt16 {
    let end = try run(
      connectCommand(queue: queue, size: size, keepAlive: keepAlive, countsHead: countsHead),
      data: connectData(controller: controller, subsystem: subsystem))
    #expect(end.completion.status == .success)
    return UInt16(truncatingIfNeeded: end.completion.result)
  }

  /// An enabled controller's admin queue; returns the controller's number.
  func becomeAdmin(keepAlive: UInt32 = 0) throws -> UInt16 {
    let number = try connect(keepAlive: keepAlive)
    #expect(try run(enableCommand()).completion.status == .success)
    return number
  }
}

/// Two connected queues of one host: admin, and queue 1.
struct HostPair {
  let admin: TCPHost
  let io: TCPHost

  init(
    _ unit: TCPUnit, headerDigest: Bool = false, dataDigest: Bool = false, alignment: UInt8 = 0,
    countsHead: Bool = true
  ) throws {
    admin = try TCPHost(unit)
    try admin.initialize(headerDigest: headerDigest, dataDigest: dataDigest)
    let controller = try admin.becomeAdmin()
    io = try TCPHost(unit)
    io.admin = admin
    try io.initialize(
      headerDigest: headerDigest, dataDigest: dataDigest, alignment: alignment)
    try io.connect(queue: 1, controller: controller, countsHead: countsHead)
  }
}
