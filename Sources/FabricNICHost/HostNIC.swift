import FabricBounded
public import FabricCompletion
public import FabricMessaging
public import FabricNIC
import FabricPlatform
public import FabricVerbs
import FabricWire

/// The host half of a split network driver: a TAP interface whose frames are pushed to the unit that owns the port,
/// and that has the frames which the unit pushes.
///
/// While the unit is away the interface has no carrier; it is connected again, for ever.
///
/// Threads: confined to the thread that runs the service, but for `init`. Nothing is allocated for a frame.
public final class HostNIC: @unchecked Sendable {
  public struct Options: Sendable {
    public var nicName = ""
    public var hostName = "nqn.2024-01.org.channelfabric:host"
    /// Proven to the unit, which proves it, too; the host's name is then that of the key.
    public var key: (any ChannelKey)?
    /// As in `ChannelOptions`.
    public var heartbeat: Duration = .seconds(2)
    /// Buffers advertised to the unit; 2 at least.
    public var bufferCount = 32
    /// The longest that one attempt to connect may take.
    public var attemptTimeout: Duration = .seconds(5)
    public var backoff = Backoff()
    /// The first attempt to connect is one of many.
    public var isPatientAtFirst = false
    /// Told of what an operator might want to know: one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  public enum State: Sendable, Equatable {
    case connecting(String)
    /// Frames pass where the unit's port is up.
    case attached(LinkNotice)
    /// Given up.
    case failed(HostNICError)
    case closed
  }

  public let options: Options
  public let unit: FabricAddress
  public let port: FramePort
  let endpoint: ChannelEndpoint
  let service: CompletionService
  let slots: FrameSlots
  let region: MemoryRegion
  let session = HostNICOpening.Session.random()
  /// Told on the service's thread.
  var stateChanged: (State) -> Void
  /// Told, on the service's thread, when others have given the interface another name.
  let renamed: (NetworkInterface) -> Void
  public internal(set) var state = State.connecting("no connection was made yet") {
    didSet { if state != oldValue { stateChanged(state) } }
  }

  var channel: Channel?
  var connection: NICConnection?
  var unitName = ""
  /// What the unit takes from this host.
  var granted: MACAddress?
  /// Asked for, and not answered yet.
  var claimed: MACAddress?
  var mtu = 1500
  var whereabouts = FramePort.Whereabouts.here
  var lastWarning = ""
  /// How often the unit told of its link.
  var linkChangeCount = 0
  var statistics = NICStatistics()
  /// Filled, and not taken by the channel yet.
  var waiting: (slot: Int, run: FrameRun)?
  /// Messages that wait for credit; few.
  var waitingControls: [(kind: NICMessageKind, bytes: [UInt8])] = []
  /// Who waits for the unit's statistics.
  var askers: [(NICStatistics?) -> Void] = []
  var backoff: Backoff
  var reconnectAt: MonotonicTime?
  var nextCheck = MonotonicTime.now
  var hasBeenAttached = false
  var isClosed = false

  static let slotCount = 16

  /// Connects once `attach` is called.
  ///
  /// - Parameters:
  ///   - port: a TAP interface of this host's.
  ///   - service: carries all on, with a thread of its own or the caller's.
  public init(
    port: FramePort, unit: FabricAddress, adapter: any Adapter, service: CompletionService,
    options: Options, renamed: @escaping (NetworkInterface) -> Void = { _ in },
    stateChanged: @escaping (State) -> Void
  ) throws(ChannelOpenError) {
    self.port = port
    self.unit = unit
    self.options = options
    self.service = service
    self.renamed = renamed
    self.stateChanged = stateChanged
    backoff = options.backoff
    endpoint = try ChannelEndpoint(adapter: adapter, service: service)
    let byteCount = FrameSlots.usualByteCount
    do throws(RegistrationError) {
      region = try endpoint.protectionDomain.allocate(
        byteCount: Self.slotCount * byteCount, access: [.localWrite])
    } catch {
      endpoint.close()
      throw .resources(error.description)
    }
    unsafe slots = FrameSlots(
      address: region.address, count: Self.slotCount, byteCount: byteCount)
  }

  /// Begins to connect, and to carry frames.
  public func attach() {
    try? port.setCarrier(false)
    port.activate()
    service.add(self as any ProgressSource)
    service.add(self as any TimedSource)
    connect()
  }

  /// Closes the connection in order; the interface loses its carrier.
  public func close() {
    guard !isClosed else { return }
    isClosed = true
    channel?.close()
    drop()
    state = .closed
    service.remove(self as any ProgressSource)
    service.remove(self as any TimedSource)
    endpoint.close()
    endAskers()
  }

  /// What this half has counted.
  public var counted: NICStatistics { statistics }
  /// The address that the unit takes from this host; nil before the first connection.
  public var address: MACAddress? { granted }
  /// What the unit calls itself; empty before the first connection.
  public var peerName: String { unitName }

  /// Asks the unit what it has counted; nil without a connection.
  public func askStatistics(_ answer: @escaping (NICStatistics?) -> Void) {
    guard channel?.isOpen == true else { return answer(nil) }
    askers.append(answer)
    send(.statisticsQuery, [])
  }

  func endAskers() {
    let all = askers
    askers = []
    for asker in all { asker(nil) }
  }

  /// Sends a message that is about no frame, once there is credit.
  func send(_ kind: NICMessageKind, _ bytes: [UInt8]) {
    waitingControls.append((kind, bytes))
    sendControls()
  }

  func sendControls() {
    while let (kind, bytes) = waitingControls.first, let channel {
      let refusal = channel.send(kind: kind.rawValue, tag: 0, bytes: bytes)
      if refusal == .noCredit || refusal == .noBuffer { return }
      waitingControls.removeFirst()
    }
    channel?.flush()
  }
}
