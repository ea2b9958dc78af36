public import FabricCompletion
public import FabricFrontEnds
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs
import FabricWire

/// Why an I2O front end could not start to serve.
public enum I2OServerError: Error, Sendable, CustomStringConvertible {
  /// The fabric or the system refused something that every server needs.
  case resources(String)
  /// The address cannot be listened at.
  case listening(address: FabricAddress, reason: String)
  /// Another subsystem of that name serves from the common layer.
  case subsystem(String)

  public var description: String {
    switch self {
    case .resources(let words), .subsystem(let words): words
    case .listening(_, let reason): reason
    }
  }
}

/// Serves the volumes of a common layer to hosts that speak I2O over channels of one fabric. The
/// clauses are in `Specs/I2O.md`.
///
/// Threads: `init`, `stop` and all members on any but the service's own; the work is done on the first
/// thread of the service, which others may share.
public final class I2OServer: FrontEndCarrier, @unchecked Sendable {
  public struct Options: Sendable {
    /// What the unit calls itself, at most 64 bytes.
    public var unitName = "nqn.2024-01.org.channelfabric:unit"
    /// Requests that a host may have under way on one channel, 1 to 1024; one message more is for an
    /// abort. (IT-5)
    public var depth = 128
    /// The most bytes that one message transfers; also the size of a buffer that hosts write to.
    public var maximumTransferByteCount = 128 << 10
    /// Buffers of that size for each channel's writes.
    public var bufferCount = 32
    /// Buffers that reads go through, of all channels.
    public var readBufferCount = 256
    /// How long a host may take none of what waits for it while others wait for buffers.
    public var stallTimeout = FrontEndOptions().stallTimeout
    /// Channels at once, and those of one address among them: each takes memory and keys of the fabric.
    public var channelCount = 1024
    public var channelsPerOrigin = 256
    /// Takes only hosts that prove one of these keys; nil: any host.
    public var keys: (any ChannelKeyring)?
    /// Which hosts may use which volumes; nil: every host all of them.
    public var rights: VolumeRights?
    /// Told of what an operator might want to know: one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  /// Where it listens, in the order given; for a name its addresses, and with the port where that was
  /// left open.
  public private(set) var addresses: [FabricAddress] = []
  let options: Options
  let frontEnd: FrontEnd
  /// Memory for what the processor answers: hosts that read do not keep others from connecting.
  let answers: DataBuffers
  let numbers: DeviceNumbers
  private let service: CompletionService
  private let endpoint: ChannelEndpoint
  private let registration: Registration
  private let refusals: RefusalLog
  private var listeners: [ChannelListener] = []
  private var connections: [I2OConnection] = []
  /// By address, what was accepted.
  private var accepted: [String: [AcceptedConnection]] = [:]

  private struct AcceptedConnection {
    weak var connection: I2OConnection?
    var isThere: Bool { connection.map { $0.state != .gone } ?? false }
  }
  private var touched: [I2OConnection] = []
  private var nextNumber: UInt32 = 0
  private var isStopped = false

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - service: has one or more threads of its own and outlives this object.
  ///   - adapter: of the fabric of all addresses.
  ///   - addresses: where to listen, at least one.
  /// - Throws: `I2OServerError`; nothing is left behind.
  public init(
    layer: CommonLayer, service: CompletionService, adapter: any Adapter,
    addresses: [FabricAddress], options: Options = .init()
  ) throws(I2OServerError) {
    precondition(
      !addresses.isEmpty && addresses.allSatisfy { $0.fabric == adapter.fabric },
      "addresses of the adapter's fabric")
    precondition((1...1024).contains(options.depth), "1 to 1024 requests")
    self.options = options
    self.service = service
    numbers = DeviceNumbers(name: "i2o devices \(addresses[0])")
    refusals = RefusalLog(service, log: options.log)
    let made = service.result(of: {
      Result { () throws(ChannelOpenError) in
        try ChannelEndpoint(adapter: adapter, service: service)
      }
    })
    do throws(ChannelOpenError) {
      endpoint = try made.get()
    } catch { throw .resources(error.description) }
    let endpoint = endpoint
    let memory = RegisteredMemory(domain: endpoint.protectionDomain)
    answers = DataBuffers(
      elementByteCount: 16 << 10, elementCount: 64, largeByteLimit: 1 << 20, source: memory)
    var shared = FrontEndOptions()
    shared.bufferByteCount = options.maximumTransferByteCount
    shared.bufferCount = options.readBufferCount
    shared.largeBufferByteLimit = options.maximumTransferByteCount
    shared.stallTimeout = options.stallTimeout
    shared.rights = options.rights
    shared.log = options.log
    shared.memory = memory
    do throws(FrontEndError) {
      frontEnd = try FrontEnd(
        name: "i2o \(addresses[0])", layer: layer, service: service, options: shared)
    } catch {
      service.result(of: { endpoint.close() })
      throw .subsystem(error.description)
    }
    do throws(CommonLayerError) {
      registration = try layer.register(numbers)
    } catch {
      frontEnd.stop()
      service.result(of: { endpoint.close() })
      throw .subsystem(error.description)
    }
    service.add(refusals)
    let relay = ChangeRelay(self)
    numbers.begin(with: layer.volumes) {
      service.execute { relay.server?.devicesChanged() }
    }
    frontEnd.begin(self)
    for address in addresses { try listen(at: address) }
  }

  private func listen(at address: FabricAddress) throws(I2OServerError) {
    var channel = ChannelOptions()
    channel.messageByteCount = Self.messageByteCount
    channel.receiveCount = min(1024, max(64, 2 * options.depth))
    channel.sendCount = Self.sendCount
    channel.bufferCount = options.bufferCount
    channel.bufferByteCount = options.maximumTransferByteCount
    channel.keys = options.keys
    let result = service.result(of: { [self, channel] in
      Result { () throws(ChannelOpenError) in
        listeners.append(
          try endpoint.listen(
            at: address, options: channel,
            accept: { [unowned self] in accept(greeting: $0, peer: $1) },
            refused: { [unowned self] in refusals.refused("i2o: refused \($0): \($1)") }))
        return listeners[listeners.count - 1].addresses
      }
    })
    do throws(ChannelOpenError) {
      addresses += try result.get()
    } catch {
      stop()
      throw .listening(address: address, reason: error.description)
    }
  }

  /// A frame with what goes ahead of it in a message.
  public static let messageByteCount = 24 + I2O.maximumFrameByteCount
  /// Messages and writes of one channel that the fabric has at once.
  static let sendCount = 256

  /// Hosts that have said something. Waits for the service's thread.
  public var connectionCount: Int { service.result(of: { [self] in connections.count }) }
  /// Buffers of reads that nobody has. Waits for the service's thread.
  public var freeReadBufferCount: Int {
    service.result(of: { [self] in frontEnd.buffers.freeElementCount })
  }

  /// Accepts nobody any more, closes every channel in order, lets what was accepted end, and returns
  /// when nothing is called any more. The service goes on. A second call has no effect.
  public func stop() {
    if isStopped { return }
    isStopped = true
    numbers.end()
    frontEnd.stop()
    registration.deregister()
    service.remove(refusals)
  }

  // MARK: On the service's thread

  private func accept(greeting: [UInt8], peer: ChannelPeer) -> AcceptDecision {
    do throws(I2OOpeningFault) {
      let host = try I2OHostOpening(decoding: greeting)
      if let name = peer.keyName, name != host.hostName {
        return refuse(
          peer,
          "expected the host to call itself as its key is called, \"\(name)\", got "
            + "\"\(host.hostName)\"")
      }
      let answer = I2OUnitOpening(
        unitName: options.unitName,
        maximumTransferByteCount: UInt32(options.maximumTransferByteCount))
      let origin = I2OConnection.origin(peer.place)
      if let limit = exceededLimit(of: origin) {
        return refuse(peer, "it would be more than the \(limit) channels that may be at once")
      }
      let connection = I2OConnection(server: self, hostName: host.hostName, peer: peer)
      accepted[origin, default: []].append(AcceptedConnection(connection: connection))
      return .accept(greeting: answer.encoded(), handler: connection)
    } catch {
      guard error.isForeign else { return refuse(peer, error.description) }
      return refuse(
        peer,
        "\(error); this address is for I2O: use iohost with --emulate i2o, or one of the unit's other "
          + "addresses")
    }
  }

  private func exceededLimit(of origin: String) -> Int? {
    accepted = accepted.mapValues { $0.filter(\.isThere) }.filter { !$0.value.isEmpty }
    if accepted.values.reduce(0, { $0 + $1.count }) >= options.channelCount {
      return options.channelCount
    }
    let count = accepted[origin]?.count ?? 0
    return count >= options.channelsPerOrigin ? options.channelsPerOrigin : nil
  }

  private func refuse(_ peer: ChannelPeer, _ reason: String) -> AcceptDecision {
    refusals.refused("i2o: refused \(peer): \(reason)")
    return .reject(reason: reason)
  }

  /// A host has said something for the first time.
  func add(_ connection: I2OConnection) {
    nextNumber &+= 1
    connection.number = nextNumber
    connections.append(connection)
  }

  func remove(_ connection: I2OConnection) {
    connections.removeAll { $0 === connection }
    touched.removeAll { $0 === connection }
  }

  /// Remembers to post what a connection's channel holds.
  func touch(_ connection: I2OConnection) {
    if connection.isTouched { return }
    connection.isTouched = true
    touched.append(connection)
  }

  /// Tells a server that is still there.
  private final class ChangeRelay: @unchecked Sendable {
    weak var server: I2OServer?
    init(_ server: I2OServer) { self.server = server }
  }

  private func devicesChanged() {
    for connection in connections { connection.devicesChanged() }
    frontEnd.flush()
  }

  public func flush() {
    guard !touched.isEmpty else { return }
    for index in 0..<touched.count {
      touched[index].isTouched = false
      touched[index].channel?.flush()
    }
    touched.removeAll(keepingCapacity: true)
  }

  public func forEachDebtor(_ body: (_ number: UInt32, _ progress: UInt64) -> Void) {
    for connection in connections where connection.keepsBuffers {
      body(connection.number, connection.progress)
    }
  }

  public var leastProgress: UInt64 { 1 }
  public var debtorPatience: Int { 6 }

  public func endDebtor(_ number: UInt32) {
    let connection = connections.first { $0.number == number }
    connection?.violation("it takes no data while others wait for buffers")
  }

  public func endConnections() {
    for listener in listeners { listener.close() }
    listeners = []
    endpoint.close()
  }

  public func leaveService() {
    for connection in connections { connection.abandon() }
    connections = []
    touched = []
  }

  func runLater(_ body: @escaping @Sendable () -> Void) { service.execute(body) }
}
