package import FabricHostDevices
package import FabricPlatform
package import FabricWire
import Glibc
import Testing

/// The front end's side of the protocol, for a back end of this thread or of another process.
package final class FrontEnd {
  package let socket: StreamSocket
  package let memory: MachineMemory
  /// What the back end was given to ask by.
  package private(set) var backEndChannel: StreamSocket?
  package private(set) var calls: [PassedDescriptor] = []
  package private(set) var kicks: [PassedDescriptor] = []
  package private(set) var errors: [PassedDescriptor] = []
  /// Set on each message that has no answer of its own.
  package var wantsReplies = true

  package struct Reply {
    package var code: UInt32
    package var flags: UInt32
    package var payload: [UInt8]
    package var descriptors: [PassedDescriptor]
    package var word: UInt64 { payload.withWire { $0.uint64(at: 0) } }
  }

  /// Has a back end of this thread go on until the condition holds, or for long enough.
  private let carryOn: ((_ until: () -> Bool) -> Void)?

  /// - Parameter carryOn: runs the back end, where that is one of this thread; nil: it is another process.
  package init(
    path: String, memory: MachineMemory, carryOn: ((_ until: () -> Bool) -> Void)? = nil
  ) throws {
    socket = try StreamSocket.connect(toPath: path)
    self.memory = memory
    self.carryOn = carryOn
  }

  // MARK: Messages

  package func send(
    _ code: UInt32, _ payload: [UInt8] = [], descriptors: [CInt] = [], flags: UInt32 = 1
  ) throws {
    var bytes = Self.words(code, flags, UInt32(payload.count)) + payload
    try unsafe bytes.withUnsafeMutableBytes {
      try unsafe socket.sendPassing(UnsafeRawBufferPointer($0), descriptors: descriptors)
    }
  }

  /// Runs the back end until an answer has come; nil when it hangs up.
  package func reply(from other: StreamSocket? = nil) -> Reply? {
    var bytes: [UInt8] = []
    var descriptors: [PassedDescriptor] = []
    var hasEnded = false
    func isWhole() -> Bool {
      guard bytes.count >= 12 else { return false }
      return bytes.count >= 12 + Int(bytes.withWire { $0.uint32(at: 8) })
    }
    run {
      var room = [UInt8](repeating: 0, count: 600)
      switch unsafe room.withUnsafeMutableBytes({ unsafe (other ?? socket).receivePassing($0) }) {
      case .bytes(let count, let passed, _):
        bytes += room.prefix(count)
        descriptors += passed
      case .hangUp: hasEnded = true
      case .nothing: break
      }
      return hasEnded || isWhole()
    }
    guard isWhole() else { return nil }
    return bytes.withWire {
      Reply(
        code: $0.uint32(at: 0), flags: $0.uint32(at: 4), payload: Array(bytes.dropFirst(12)),
        descriptors: descriptors)
    }
  }

  /// Sends, and returns the answer; nil when the back end hangs up.
  package func ask(_ code: VhostUser.Code, _ payload: [UInt8] = [], descriptors: [CInt] = [])
    -> Reply?
  {
    try? send(code.rawValue, payload, descriptors: descriptors)
    return reply()
  }

  /// Sends what has no answer of its own, and returns whether it was carried out.
  @discardableResult
  package func tell(_ code: VhostUser.Code, _ payload: [UInt8] = [], descriptors: [CInt] = [])
    -> Bool
  {
    try? send(code.rawValue, payload, descriptors: descriptors, flags: wantsReplies ? 9 : 1)
    if !wantsReplies { return true }
    return reply()?.word == 0
  }

  package static func words(_ values: UInt32...) -> [UInt8] {
    values.flatMap { $0.littleEndianBytes }
  }
  package static func longs(_ values: UInt64...) -> [UInt8] {
    values.flatMap { $0.littleEndianBytes }
  }

  package static func bytes(_ region: RegionDescription) -> [UInt8] {
    longs(region.guestAddress, region.byteCount, region.userAddress, region.fileOffset)
  }

  // MARK: Set-up

  /// What comes first. Returns the features that both have.
  @discardableResult
  package func negotiate(without missing: DeviceFeatures = []) -> DeviceFeatures {
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

  package func setMemory() -> Bool {
    tell(
      .setMemoryTable, Self.words(1, 0) + Self.bytes(memory.region),
      descriptors: [memory.file.descriptor.rawValue])
  }

  /// Starts a queue; kicks and calls go by descriptors.
  package func start(_ queue: MachineQueue, number: Int = 0, base: UInt16 = 0) throws {
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

  package func makeBackEndChannel() throws {
    let (mine, theirs) = try StreamSocket.localPair()
    backEndChannel = mine
    #expect(tell(.setBackEndSocket, descriptors: [theirs.number]))
  }

  package func hasEvent(_ event: PassedDescriptor) -> Bool {
    guard let poller = try? Poller(), (try? poller.add(event.number, tag: 0)) != nil else {
      return false
    }
    return poller.wait(timeout: .zero) { _ in } > 0
  }

  /// Takes what was signalled.
  package func clear(_ event: PassedDescriptor) {
    guard hasEvent(event) else { return }
    var count: UInt64 = 0
    _ = unsafe read(event.number, &count, 8)
  }

  /// Runs the back end until `condition` holds; false after ten seconds. Of another process: waits for what it
  /// says or signals; false after 30 seconds, or when it has hung up.
  @discardableResult
  package func run(until condition: () -> Bool) -> Bool {
    guard let carryOn else { return waits(until: condition) }
    // What a condition takes it takes once.
    var holds = false
    carryOn {
      holds = condition()
      return holds
    }
    return holds
  }

  private func waits(until condition: () -> Bool) -> Bool {
    let end = MonotonicTime.now + .seconds(30)
    while true {
      if condition() { return true }
      let now = MonotonicTime.now
      guard now < end, let poller = try? Poller() else { return false }
      let events = calls + errors
      let channels = [socket] + [backEndChannel].compactMap { $0 }
      for number in channels.map(\.number) + events.map(\.number) {
        guard (try? poller.add(number, tag: UInt64(number))) != nil else { return false }
      }
      _ = poller.wait(timeout: .nanoseconds(end.nanoseconds(since: now))) { tag in
        if let event = events.first(where: { UInt64($0.number) == tag }) { clear(event) }
      }
      if socket.peerHasEnded { return condition() }
    }
  }
}

extension FixedWidthInteger {
  package var littleEndianBytes: [UInt8] {
    (0..<MemoryLayout<Self>.size).map { UInt8(truncatingIfNeeded: self >> (8 * $0)) }
  }
}

extension Array<UInt8> {
  package func withWire<Result>(_ body: (WireView) -> Result) -> Result {
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
  package static func end(_ socket: StreamSocket) { _ = shutdown(socket.number, CInt(SHUT_RDWR)) }
}

extension FrontEnd {
  /// Carries out one request and returns its status and how much was said to be written.
  package func perform(
    _ type: UInt32, sector: UInt64 = 0, _ data: [MachinePiece] = [], on queue: MachineQueue,
    place: Int = 0x8000
  ) -> (status: UInt8, byteCount: UInt32)? {
    let request = MachineRequest(type: type, sector: sector, data: data, place: place)
    queue.add(request.pieces(in: memory))
    kicks[0].signal()
    var ends: [(head: Int, byteCount: UInt32)] = []
    run {
      ends += queue.reap()
      return !ends.isEmpty
    }
    guard let end = ends.first else { return nil }
    return (request.status(in: memory), end.byteCount)
  }
}
