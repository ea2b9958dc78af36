public import FabricPlatform
public import FabricWire

/// Connect: which queue of which controller a connection becomes. (NVMe over Fabrics 1.1, section 3.3)
public struct ConnectCommand: Sendable {
  /// Bytes that come with it.
  public static let byteCount = 1024

  public var format: UInt16
  public var queue: UInt16
  /// Entries, one less.
  public var size: UInt16
  public var attributes: UInt8
  public var keepAliveMilliseconds: UInt32

  public init(_ command: Command) {
    format = UInt16(truncatingIfNeeded: command.dword10)
    queue = UInt16(truncatingIfNeeded: command.dword10 >> 16)
    size = UInt16(truncatingIfNeeded: command.dword11)
    attributes = UInt8(truncatingIfNeeded: command.dword11 >> 16)
    keepAliveMilliseconds = command.dword12
  }

  /// Where it says something wrong: of itself, or of the data that came with it.
  enum Field: UInt64 {
    case queue = 42
    case size = 44
    case hostIdentifier = 0x1_0000
    case controller = 0x1_0010
    case subsystem = 0x1_0100
    case host = 0x1_0200
  }
}

extension NVMSubsystem {
  /// A queue that a connection has become.
  public struct ConnectedQueue {
    public let controller: Controller
    /// 0: the admin queue.
    public let number: UInt16
    /// Commands in flight.
    public let depth: Int
    /// Whether the host wants to be told how far its queue was read.
    public let tellsHead: Bool
  }

  /// Why a host was not let in.
  public struct Refusal: Error {
    public let status: Status
    public let result: UInt64
    /// For the log.
    public let words: String

    init(status: Status, result: UInt64, words: String) {
      self.status = status
      self.result = result
      self.words = words
    }

    /// A queue that is not the one that the connection was asked for.
    public static func wrongQueue(_ words: String) -> Refusal {
      Refusal(
        status: .connectInvalidParameters, result: ConnectCommand.Field.queue.rawValue,
        words: words)
    }

    /// A queue that is longer than the one that the connection was asked for.
    public static func wrongSize(_ words: String) -> Refusal {
      Refusal(
        status: .connectInvalidParameters, result: ConnectCommand.Field.size.rawValue, words: words)
    }
  }

  /// Makes a connection a queue of a controller.
  ///
  /// - Parameters:
  ///   - data: of `ConnectCommand.byteCount` bytes.
  ///   - link: kept until `Controller.disconnected`.
  ///   - transport: that the connection comes over.
  ///   - origin: the host's address; it has a part of the controllers.
  ///   - address: of this machine, that the host came to.
  public func connect(
    _ command: Command, data: WireView, link: any ControllerLink, over transport: QueueTransport,
    from origin: [UInt8] = [], reachedAt address: DiscoveryEntry.Host? = nil, at now: MonotonicTime
  ) throws(Refusal) -> ConnectedQueue {
    let request = ConnectCommand(command)
    guard request.format == 0 else {
      throw Refusal(
        status: .connectIncompatibleFormat, result: 0,
        words: "expected Connect of format 0, got \(request.format)")
    }
    let identity = try host(in: data)
    let controllerNumber = data.uint16(at: 16)
    let name = QualifiedName.read(data.slice(256, 256).array) ?? ""
    let kind: Controller.Kind
    switch name {
    case options.name: kind = .io
    case QualifiedName.discovery: kind = .discovery
    default:
      throw invalid(.subsystem, "expected subsystem \(options.name), got \"\(name)\"")
    }
    try check(request, of: kind)
    let controller =
      request.queue == 0
      ? try newController(
        controllerNumber, identity, kind, over: transport, from: origin, at: now)
      : try controller(controllerNumber, of: identity, for: request, kind, over: transport)
    if request.queue == 0 {
      controller.reachedAt = address
      controller.setKeepAlive(milliseconds: request.keepAliveMilliseconds, at: now)
    }
    controller.connect(request.queue, link)
    return ConnectedQueue(
      controller: controller, number: request.queue, depth: Int(request.size) + 1,
      tellsHead: request.attributes & 0b100 == 0)
  }

  private func host(in data: WireView) throws(Refusal) -> HostIdentity {
    let identifier = data.slice(0, 16).array
    let name = QualifiedName.read(data.slice(512, 256).array) ?? ""
    guard QualifiedName.fault(in: name) == nil else {
      throw invalid(.host, "expected a host's NQN, got \"\(name)\"")
    }
    guard identifier.contains(where: { $0 != 0 }) else {
      throw invalid(.hostIdentifier, "expected an identifier of host \(name), got zeroes")
    }
    return HostIdentity(name: name, identifier: identifier)
  }

  private func check(
    _ request: ConnectCommand, of kind: Controller.Kind
  ) throws(Refusal) {
    // An admin queue has at least 32 entries. (NVMe over Fabrics 1.1, section 3.3)
    let least = request.queue == 0 ? 31 : 1
    guard Int(request.size) >= least, Int(request.size) < options.queueDepth else {
      throw invalid(
        .size,
        "expected a queue of \(least + 1) to \(options.queueDepth) entries, got "
          + "\(Int(request.size) + 1)")
    }
    guard Int(request.queue) <= (kind == .io ? options.queueCount : 0) else {
      throw invalid(
        .queue, "expected queue 0 to \(options.queueCount), got \(request.queue)")
    }
  }

  private func newController(
    _ number: UInt16, _ identity: HostIdentity, _ kind: Controller.Kind,
    over transport: QueueTransport, from origin: [UInt8], at now: MonotonicTime
  ) throws(Refusal) -> Controller {
    // Controllers are made as hosts connect. (NVMe over Fabrics 1.1, section 1.5.1)
    guard number == 0xFFFF else {
      throw invalid(.controller, "expected controller 0xFFFF of an admin queue, got \(number)")
    }
    guard kind == .discovery || !namespaces(for: identity.name).isEmpty else {
      throw Refusal(
        status: .connectInvalidHost, result: 0,
        words: "host \(identity.name) may use no volume: allow it one, as --allow "
          + "\(identity.name)=VOLUME")
    }
    guard
      let controller = makeController(
        for: identity, kind: kind, over: transport, from: origin, at: now)
    else {
      throw Refusal(
        status: .connectControllerBusy, result: 0,
        words: "all \(options.controllerCount) controllers are in use, or the "
          + "\(options.controllersPerOrigin) that hosts of one address may have")
    }
    return controller
  }

  private func controller(
    _ number: UInt16, of identity: HostIdentity, for request: ConnectCommand,
    _ kind: Controller.Kind, over transport: QueueTransport
  ) throws(Refusal) -> Controller {
    guard let controller = controllers[number], controller.kind == kind,
      controller.transport.kind == transport.kind
    else {
      throw invalid(
        .controller, "expected a controller that is there, over this transport, got \(number)")
    }
    guard controller.host.name == identity.name else {
      throw invalid(
        .host,
        "expected host \(controller.host.name) for controller \(number), got \(identity.name)")
    }
    guard controller.host.identifier == identity.identifier else {
      throw invalid(
        .hostIdentifier, "expected the identifier that host \(identity.name) began with")
    }
    // As many as it was granted, if it has asked. (Base 1.4, section 5.21.1.7)
    if let granted = controller.features.grantedQueues, request.queue > granted & 0xFFFF + 1 {
      throw invalid(
        .queue, "expected queue 1 to \(granted & 0xFFFF + 1), as granted, got \(request.queue)")
    }
    guard controller.isReady, controller.shutdownStatus == 0,
      !controller.isConnected(request.queue)
    else {
      throw Refusal(
        status: .commandSequenceError, result: 0,
        words: "queue \(request.queue) of controller \(number) is connected, or it is not enabled")
    }
    return controller
  }

  private func invalid(_ field: ConnectCommand.Field, _ words: String) -> Refusal {
    Refusal(status: .connectInvalidParameters, result: field.rawValue, words: words)
  }
}
