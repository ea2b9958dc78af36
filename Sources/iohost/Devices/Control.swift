import CFabricLinux
import FabricCommandLine
import FabricHostDevices
import FabricPlatform
import FoundationEssentials

/// What a command asks of the process that serves a device: one object of JSON in a packet, answered
/// with one. (HD-40)
struct ControlRequest: Codable {
  /// What is asked: `status`, `paths`, `control` or `detach`.
  var request: String
  /// Of `detach`: whether or not the device is in use.
  var force: Bool?
  /// Of `paths`: the policy from now on.
  var policy: String?
  /// Of `control`: the call's code and payload, and the number of the path to take.
  var call: UInt32?
  var payload: [UInt8]?
  var path: Int?

  init(
    _ request: String, force: Bool? = nil, policy: String? = nil, call: UInt32? = nil,
    payload: [UInt8]? = nil, path: Int? = nil
  ) {
    self.request = request
    self.force = force
    self.policy = policy
    self.call = call
    self.payload = payload
    self.path = path
  }
}

/// What it answers. Where it could not be done `code` is the exit code and `words` say why.
struct ControlAnswer: Codable, Sendable {
  var code: Int32?
  var words: String?
  var status: DeviceStatus?
  var paths: DevicePaths?
  /// Of a control call that the unit answered.
  var result: ControlResult?

  init(_ status: DeviceStatus? = nil) { self.status = status }
  init(_ paths: DevicePaths) { self.paths = paths }
  init(_ result: ControlResult) { self.result = result }

  init(_ failure: ToolFailure) {
    code = failure.code
    words = failure.words
  }

  func get() throws(ToolFailure) -> DeviceStatus? {
    try check()
    return status
  }

  func check() throws(ToolFailure) {
    if let words { throw ToolFailure(code ?? 74, words) }
  }
}

/// What is to be known of a device.
struct DeviceStatus: Codable, Sendable {
  var name: String
  /// Until there is one: nil.
  var device: String?
  var kind: String
  var url: String
  var byteCount: UInt64
  var blockByteCount: UInt32
  var isReadOnly: Bool
  /// `connecting`, `attached`, `failing` (requests end with errors until there is a path), `failed` or
  /// `detaching`.
  var state: String
  /// Why it is not attached.
  var reason: String?
  var processIdentifier: Int32
  var guardProcessIdentifier: Int32?
  var log: String?
  /// The volume's file, which takes requests of whole blocks.
  var file: String?
  var figures: Figures
  var paths: [DevicePaths.Path]

  struct Figures: Codable, Sendable {
    var reads: UInt64 = 0
    var readBytes: UInt64 = 0
    var writes: UInt64 = 0
    var writeBytes: UInt64 = 0
    var flushes: UInt64 = 0
    var zeroings: UInt64 = 0
    var errors: UInt64 = 0
    var inFlight = 0
    var reconnects = 0

    init() {}

    init(_ figures: DeviceFigures) {
      reads = figures.readCount
      readBytes = figures.readByteCount
      writes = figures.writeCount
      writeBytes = figures.writeByteCount
      flushes = figures.flushCount
      zeroings = figures.zeroingCount
      errors = figures.errorCount
      inFlight = figures.inFlightCount
    }
  }
}

/// Packets of JSON over a socket.
enum ControlPacket {
  /// The longest, in bytes.
  static let limit = 64 << 10

  static func encode(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return (try? encoder.encode(value)).map { Array($0) } ?? []
  }

  /// What waits on the socket: nil when the other end has gone or sent what nobody understands.
  static func receive<Value: Decodable>(_ type: Value.Type, on socket: SequencedSocket) -> Value? {
    var buffer = [UInt8](repeating: 0, count: limit)
    let received = unsafe buffer.withUnsafeMutableBytes { unsafe socket.receive(into: $0) }
    guard case .datagram(let count, let descriptors, _) = received else { return nil }
    for descriptor in descriptors { close(descriptor) }
    return try? JSONDecoder().decode(type, from: Data(buffer[..<count]))
  }

  /// Waits until a descriptor has something to read or its other end has gone.
  ///
  /// - Returns: false when the time is over.
  static func wait(on descriptor: CInt, seconds: Double?) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    let limit = seconds.map { CInt($0 * 1000) } ?? -1
    while true {
      let count = unsafe fabric_poll(&entry, 1, limit)
      if count >= 0 { return count > 0 }
      guard Errno.current == .interrupted else { return false }
    }
  }
}

extension StateEntry {
  /// Asks the process that serves the device.
  ///
  /// - Parameter seconds: how long to wait for the answer; nil: as long as it takes, and what is waited for
  ///   is said after a while.
  func ask(_ request: ControlRequest, seconds: Double?) throws(ToolFailure) -> ControlAnswer {
    let connection: SequencedSocket
    do throws(Errno) {
      connection = try SequencedSocket.connect(to: socket)
      try connection.send(ControlPacket.encode(request))
    } catch {
      throw ToolFailure(
        69,
        "expected the process that serves \(name) to listen at \(socket), got \"\(error)\"; "
          + "see \(log)")
    }
    if seconds == nil, !ControlPacket.wait(on: connection.descriptor.rawValue, seconds: 5) {
      Output.error(patienceWords)
    }
    guard ControlPacket.wait(on: connection.descriptor.rawValue, seconds: seconds) else {
      throw ToolFailure(
        75,
        "expected the process that serves \(name) to answer, but it did not in time; see "
          + log)
    }
    guard let answer = ControlPacket.receive(ControlAnswer.self, on: connection) else {
      throw ToolFailure(
        69, "expected an answer of the process that serves \(name), but it ended; see \(log)")
    }
    return answer
  }

  /// What keeps an answer away, as far as can be seen.
  private var patienceWords: String {
    let waiting = "waiting for the process that serves \(name)"
    guard let process = readRecord()?.processIdentifier else { return "\(waiting); see \(log)" }
    let number = "process \(process)"
    guard ProcessIdentifier.isStopped(process) else {
      return "\(waiting), \(number): what was written is on its way; see \(log)"
    }
    return
      "\(waiting), but \(number) is stopped: kill -CONT \(process), or kill -9 \(process), which "
      + "detaches it without a flush"
  }

  func status() throws(ToolFailure) -> DeviceStatus? {
    try ask(ControlRequest("status"), seconds: 5).get()
  }
}
