public import FabricPlatform
public import FabricStorage

/// An NVM subsystem: the volumes as namespaces, and the controllers of the hosts that use them, whatever
/// transports these came by.
///
/// Threads: all members belong to the thread that serves the transports.
public final class NVMSubsystem {
  public struct Options: Sendable {
    /// The subsystem's name.
    public var name = "nqn.2024-01.org.channelfabric:unit"
    /// Which hosts, by their names, may use which volumes; nil: every host all of them.
    public var rights: VolumeRights?
    /// Entries of one queue, at most.
    public var queueDepth = 1024
    /// I/O queues of one controller.
    public var queueCount = 64
    /// Controllers at once, and as many of discovery, which anybody may have.
    public var controllerCount = 512
    /// Of those, for the hosts of one address: nobody can have all of them.
    public var controllersPerOrigin = 128
    /// Bytes that travel in a command's own capsule.
    public var inCapsuleByteCount = 16 << 10
    /// The most bytes that one command transfers: 4096 times a power of two.
    public var maximumTransferByteCount = 1 << 20
    /// Told of what an operator might want to know: one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  /// The greatest number of a namespace; volumes beyond are not served.
  static let namespaceLimit = 1024

  public let options: Options
  /// The ways in, for the discovery log.
  public private(set) var entries: [DiscoveryEntry] = []
  /// Grows with every change of the discovery log.
  private(set) var discoveryGeneration: UInt64 = 1
  /// By number, from 1 on; nil where the volume is gone.
  private(set) var namespaces: [Namespace?] = []
  /// Which volumes have had which numbers.
  private var names: [String] = []
  private(set) var controllers: [UInt16: Controller] = [:]
  private var nextController: UInt16 = 1
  /// What tells this subsystem from others for people: from its name, so that it stays.
  let serialNumber: String

  public init(options: Options = .init()) {
    self.options = options
    serialNumber = Self.serialNumber(of: options.name)
  }

  /// 16 hexadecimal digits of FNV-1a.
  private static func serialNumber(of name: String) -> String {
    let sum = name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
      ($0 ^ UInt64($1)) &* 0x100_0000_01b3
    }
    let digits = String(sum, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  // MARK: Ways in

  /// Tells hosts that ask of one more way in.
  public func add(_ entry: DiscoveryEntry) {
    guard !entries.contains(entry) else { return }
    entries.append(entry)
    discoveryHasChanged()
  }

  private func discoveryHasChanged() {
    discoveryGeneration += 1
    for controller in controllers.values { controller.discoveryHasChanged() }
  }

  // MARK: Namespaces

  /// Serves a volume, under the number that it had before, if any.
  public func add(_ volume: Volume) {
    let index = names.firstIndex(of: volume.name) ?? names.count
    guard index < Self.namespaceLimit else {
      return options.log(
        "\(volume.name): not served over NVMe, which has \(Self.namespaceLimit) namespaces already")
    }
    if index == names.count {
      names.append(volume.name)
      namespaces.append(nil)
    }
    let namespace = Namespace(number: UInt32(index + 1), volume: volume)
    namespaces[index] = namespace
    tell(of: namespace)
  }

  /// Serves a volume no longer.
  public func remove(_ volume: Volume) {
    guard let index = namespaces.firstIndex(where: { $0?.volume === volume }),
      let namespace = namespaces[index]
    else { return }
    namespaces[index] = nil
    tell(of: namespace)
  }

  /// A volume has changed, its size for example.
  public func changed(_ volume: Volume) {
    guard let namespace = namespaces.lazy.compactMap({ $0 }).first(where: { $0.volume === volume })
    else { return }
    tell(of: namespace)
  }

  private func tell(of namespace: Namespace) {
    for controller in controllers.values
    where access(of: controller.host.name, to: namespace.volume) != nil {
      controller.namespaceHasChanged(namespace.number)
    }
  }

  /// The most that a host may do with a volume; nil: it does not see it.
  func access(of host: String, to volume: Volume) -> VolumeAccess? {
    options.rights.map { $0.access(of: host, to: volume) } ?? volume.access
  }

  /// What a host sees, by number.
  func namespaces(for host: String) -> [Namespace] {
    namespaces.compactMap { $0 }.filter { access(of: host, to: $0.volume) != nil }
  }

  // MARK: Controllers

  /// A new controller with a number of its own; nil when there are as many as may be.
  func makeController(
    for host: HostIdentity, kind: Controller.Kind, over transport: QueueTransport,
    from origin: [UInt8], at now: MonotonicTime
  ) -> Controller? {
    let known = controllers.values.filter { $0.kind == kind }
    guard known.count < options.controllerCount,
      known.count(where: { $0.origin == origin }) < options.controllersPerOrigin
    else { return nil }
    while controllers[nextController] != nil || nextController == 0 || nextController >= 0xFFF0 {
      nextController = nextController >= 0xFFF0 ? 1 : nextController + 1
    }
    let controller = Controller(
      number: nextController, host: host, kind: kind, transport: transport, origin: origin,
      subsystem: self, now: now)
    controllers[nextController] = controller
    nextController += 1
    return controller
  }

  func forget(_ controller: Controller) {
    if controllers[controller.number] === controller { controllers[controller.number] = nil }
  }

  /// When `expire` must be called at the latest; nil: never.
  public var nextDeadline: MonotonicTime? { controllers.values.compactMap(\.deadline).min() }

  /// Ends the controllers that have not heard of their hosts for too long; returns how many.
  public func expire(at now: MonotonicTime) -> Int {
    let silent = controllers.values.filter { $0.deadline.map { $0 <= now } ?? false }
    for controller in silent { controller.expire() }
    return silent.count
  }

  /// Ends all controllers.
  public func shutDown() { for controller in Array(controllers.values) { controller.end() } }
}
