import FabricCompletion
import FabricPlatform
import FabricWire
import Glibc
import Testing

@testable import FabricHostDevices

/// The front end's side of the protocol, on the thread that runs the back end's service.
final class FrontEnd {
  let socket: StreamSocket
  let service: CompletionService
  let memory: MachineMemory
  /// What the back end was given to ask by.
  private(set) var backEndChannel: StreamSocket?
  private(set) var calls: [PassedDescriptor] = []
  private(set) var kicks: [PassedDescriptor] = []
  private(set) var errors: [PassedDescriptor] = []
  /// Set on each message that has no answer of its own.
  var wantsReplies = true

  struct Reply {
    var code: UInt32
    var flags: UInt32
    var payload: [UInt8]
    var descriptors: [PassedDescriptor]
    var word: UInt64 { payload.withWire { $0.uint64(at: 0) } }
  }

  init(path: String, service: CompletionService, memory: MachineMemory) throws {
    socket = try StreamSocket.connect(toPath: path)
    self.service = service
    self.memory = memory
  }

  // MARK: Messages

  func send(
    _ code: UInt32, _ payload: [UInt8] = [], descriptors: [CInt] = [], flags: UInt32 = 1
  ) throws {
    var bytes = Self.words(code, flags, UInt32(payload.count)) + payload
    try unsafe bytes.withUnsafeMutableBytes {
      try unsafe socket.sendPassing(UnsafeRawBufferPointer($0), descriptors: descriptors)
    }
  }

  /// Runs the back end until an answer has come; nil when it hangs up.
  func reply(from other: StreamSocket? = nil) -> Reply? {
    var bytes: [UInt8] = []
    var descriptors: [PassedDescriptor] = []
    var hasEnded = false
    func isWhole() -> Bool {
      guard bytes.count >= 12 else { return false }
      return bytes.count >= 12 + Int(bytes.withWire { $0.uint32(at: 8) })
    }
    service.run(
      until: {
        var room = [UInt8](repeating: 0, count: 600)
        switch unsafe room.withUnsafeMutableBytes({ unsafe (other ?? socket).receivePassing($0) }) {
        case .bytes(let count, let passed, _):
          bytes += room.prefix(count)
          descriptors += passed
        case .hangUp: hasEnded = true
        case .nothing: break
        }
        return hasEnded || isWhole()
      }, deadline: .now + .seconds(10))
    guard isWhole() else { return nil }
    return bytes.withWire {
      Reply(
        code: $0.uint32(at: 0), flags: $0.uint32(at: 4), payload: Array(bytes.dropFirst(12)),
        descriptors: descriptors)
    }
  }

  /// Sends, and returns the answer; nil when the back end hangs up.
  func ask(_ code: VhostUser.Code, _ payload: [UInt8] = [], descriptors: [CInt] = []) -> Reply? {
    try? send(code.rawValue, payload, descriptors: descriptors)
    return reply()
  }

  /// Sends what has no answer of its own, and returns whether it was carried out.
  @discardableResult
  func tell(_ code: VhostUser.Code, _ payload: [UInt8] = [], descriptors: [CInt] = []) -> Bool {
    try? send(code.rawValue, payload, descriptors: descriptors, flags: wantsReplies ? 9 : 1)
    if !wantsReplies { return true }
    return reply()?.word == 0
  }

  static func words(_ values: UInt32...) -> [UInt8] { values.flatMap { $0.littleEndianBytes } }
  static func longs(_ values: UInt64...) -> [UInt8] { values.flatMap { $0.littleEndianBytes } }

  static func bytes(_ region: RegionDescription) -> [UInt8] {
    longs(region.guestAddress, region.byteCount, region.userAddress, region.fileOffset)
  }

  // MARK: Set-up

  /// What comes first. Returns the features that both have.
  @discardableResult
  func negotiate(without missing: DeviceFeatures = []) -> DeviceFeatures {
    let protocolFeatures = ask(.getProtocolFeatures)?.word ?? 0
    wantsReplies = false
    tell(.setProtocolFeatures, Self.longs(protocolFeatures))
    wantsReplies = true
    tell(.setOwner)
    let offered = DeviceFeatures(rawValue: ask(.getFeatures)?.word ?? 0)
    let taken = offered.subtracting(missing)
    #expect(tell(.setFeatures, Self.longs(taken.rawValue)))
    return taken
  }

  func setMemory() -> Bool {
    tell(
      .setMemoryTable, Self.words(1, 0) + Self.bytes(memory.region),
      descriptors: [memory.file.descriptor.rawValue])
  }

  /// Starts a queue; kicks and calls go by descriptors.
  func start(_ queue: MachineQueue, number: Int = 0, base: UInt16 = 0) throws {
    let index = UInt32(number)
    #expect(tell(.setQueueSize, Self.words(index, UInt32(queue.size))))
    #expect(tell(.setQueueBase, Self.words(index, UInt32(base))))
    let places = queue.addresses
    #expect(
      tell(
        .setQueueAddresses,
        Self.words(index, 0)
          + Self.longs(places.descriptors, places.used, places.available, 0)))
    func event() throws -> PassedDescriptor {
      PassedDescriptor(owning: try EventDescriptor().descriptor.duplicate().release())
    }
    kicks.append(try event())
    calls.append(try event())
    errors.append(try event())
    let word = Self.longs(UInt64(number))
    #expect(tell(.setQueueKick, word, descriptors: [kicks.last!.number]))
    #expect(tell(.setQueueCall, word, descriptors: [calls.last!.number]))
    #expect(tell(.setQueueError, word, descriptors: [errors.last!.number]))
    #expect(tell(.setQueueEnabled, Self.words(index, 1)))
  }

  func makeBackEndChannel() throws {
    let (mine, theirs) = try StreamSocket.localPair()
    backEndChannel = mine
    #expect(tell(.setBackEndSocket, descriptors: [theirs.number]))
  }

  func hasEvent(_ event: PassedDescriptor) -> Bool {
    guard let poller = try? Poller(), (try? poller.add(event.number, tag: 0)) != nil else {
      return false
    }
    return poller.wait(timeout: .zero) { _ in } > 0
  }

  /// Takes what was signalled.
  func clear(_ event: PassedDescriptor) {
    guard hasEvent(event) else { return }
    var count: UInt64 = 0
    _ = unsafe read(event.number, &count, 8)
  }

  /// Runs the back end until `condition` holds; false after ten seconds.
  @discardableResult
  func run(until condition: () -> Bool) -> Bool {
    // What a condition takes it takes once.
    var holds = false
    service.run(
      until: {
        holds = condition()
        return holds
      }, deadline: .now + .seconds(10))
    return holds
  }
}

extension FixedWidthInteger {
  var littleEndianBytes: [UInt8] {
    (0..<MemoryLayout<Self>.size).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) }
  }
}

extension Array<UInt8> {
  func withWire<Result>(_ body: (WireView) -> Result) -> Result {
    // Never of no bytes.
    var copy = self
    if copy.isEmpty { copy = [0] }
    let count = self.count
    return unsafe copy.withUnsafeMutableBytes {
      body(unsafe WireView(UnsafeRawPointer($0.baseAddress!), byteCount: count))
    }
  }
}

extension StreamSocket {
  /// Hangs up, as the death of the process does.
  static func end(_ socket: StreamSocket) { _ = shutdown(socket.number, CInt(SHUT_RDWR)) }
}
