import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// One connection, from the attempt or the request to its end: the identifier of the connection
/// manager, and the queue pair that it connects.
///
/// The queue pair is made without the manager, which therefore leaves its states to us: on
/// InfiniBand the initiator moves it when the response has come, and then says so to the peer; the
/// acceptor moves it before it accepts. iWARP's devices do it themselves.
@safe
final class RDMAConnection: IdentifierOwner, @unchecked Sendable {
  private struct State {
    var queuePair: RDMAQueuePair?
    var tag: UInt = 0
    var deadline: MonotonicTime?
    var isConnected = false
    var hasEnded = false
  }

  private let identifier: UnsafeMutablePointer<rdma_cm_id>
  private let device: OpenDevice
  private let events: RDMAEventChannel
  private let address: FabricAddress?
  private let privateData: [UInt8]
  private let ways: RDMAWays
  private let form: PrivateDataForm
  private let state: Mutex<State>

  /// - Parameters:
  ///   - identifier: this connection's from now on.
  ///   - address: where it connects to; nil for an acceptor.
  init(
    _ identifier: UnsafeMutablePointer<rdma_cm_id>, _ queuePair: RDMAQueuePair,
    to address: FabricAddress?, privateData: [UInt8], form: PrivateDataForm,
    deadline: MonotonicTime?,
    events: RDMAEventChannel, ways: RDMAWays
  ) {
    unsafe self.identifier = unsafe identifier
    device = queuePair.device
    self.events = events
    self.address = address
    self.ways = ways
    self.privateData = form.encode(privateData)
    self.form = form
    state = Mutex(State(queuePair: queuePair, deadline: deadline))
    let tag = unsafe events.add(self, identifier)
    state.withLock { $0.tag = tag }
    queuePair.join(self)
  }

  deinit { unsafe rdma_destroy_id(identifier) }

  // MARK: Connecting

  /// Asks for the way to `host`; the rest follows on the event channel.
  func start(to host: InternetAddress, timeout: Duration) throws(Errno) {
    let milliseconds = CInt(clamping: max(1, timeout.nanoseconds / 1_000_000))
    try Errno.check {
      unsafe fabric_rdma_resolve(
        identifier, host.host, CInt(host.host.count), host.port, milliseconds)
    }
  }

  /// Accepts the request that the identifier is of.
  func accept() throws(Errno) {
    guard let queuePair = state.withLock({ $0.queuePair }) else { return }
    try moveToSend(queuePair)
    try unsafe withParameters(queuePair) { parameters throws(Errno) in
      try Errno.check { unsafe rdma_accept(identifier, parameters) }
    }
  }

  /// Moves the queue pair on the way that the manager found. iWARP's devices do it by themselves.
  private func moveToSend(_ queuePair: RDMAQueuePair) throws(Errno) {
    if device.isIWARP { return ways.tell(to: peer, by: device, gidIndex: nil) }
    let attributes = try unsafe queuePair.enter(IBV_QPS_RTR, as: identifier)
    try unsafe queuePair.enter(IBV_QPS_RTS, as: identifier)
    ways.tell(to: peer, by: device, gidIndex: attributes.ah_attr.grh.sgid_index)
  }

  private var peer: String { unsafe identifier.peerDescription }

  func heard(_ news: ConnectionNews) {
    do throws(Errno) {
      switch news.kind {
      case RDMA_CM_EVENT_ADDR_RESOLVED:
        guard isHere else { return failed(.invalidAddress(elsewhere)) }
        try Errno.check { unsafe rdma_resolve_route(identifier, 2000) }
      case RDMA_CM_EVENT_ROUTE_RESOLVED:
        guard let queuePair = state.withLock({ $0.queuePair }) else { return }
        if device.isIWARP { ways.tell(to: peer, by: device, gidIndex: nil) }
        try unsafe withParameters(queuePair) { parameters throws(Errno) in
          try Errno.check { unsafe rdma_connect(identifier, parameters) }
        }
      case RDMA_CM_EVENT_CONNECT_RESPONSE:
        guard let queuePair = state.withLock({ $0.queuePair }) else { return }
        try moveToSend(queuePair)
        try Errno.check { unsafe rdma_establish(identifier) }
        established(news.privateData)
      case RDMA_CM_EVENT_ESTABLISHED: established(news.privateData)
      case RDMA_CM_EVENT_DISCONNECTED: ended(.peer)
      case RDMA_CM_EVENT_DEVICE_REMOVAL:
        removed()
      case RDMA_CM_EVENT_TIMEWAIT_EXIT, RDMA_CM_EVENT_ADDR_CHANGE: break
      default: failed(error(of: news))
      }
    } catch {
      failed(Self.words(error, address?.description ?? "the peer"))
    }
  }

  /// What both ends tell the manager. A message that finds no receive is sent again for ever; a
  /// peer that does not answer at all, seven times.
  private func withParameters(
    _ queuePair: RDMAQueuePair,
    _ body: (UnsafeMutablePointer<rdma_conn_param>) throws(Errno) -> Void
  ) throws(Errno) {
    var parameters = unsafe rdma_conn_param()
    unsafe parameters.responder_resources = device.answerDepth
    unsafe parameters.initiator_depth = device.readDepth
    unsafe parameters.retry_count = 7
    unsafe parameters.rnr_retry_count = 7
    unsafe parameters.srq = queuePair.sharedReceives == nil ? 0 : 1
    unsafe parameters.qp_num = queuePair.number
    unsafe parameters.private_data_len = UInt8(privateData.count)
    var thrown: Errno?
    unsafe privateData.withUnsafeBytes { bytes in
      unsafe parameters.private_data = unsafe bytes.baseAddress.map { unsafe .init($0) }
      do throws(Errno) { try unsafe body(&parameters) } catch { thrown = error }
    }
    if let thrown { throw thrown }
  }

  /// Whether the address is reached by the device that the queue pair is of.
  private var isHere: Bool {
    unsafe identifier.deviceName == device.name
  }

  private var elsewhere: String {
    let other = unsafe identifier.deviceName ?? "none"
    return "expected an address that \(device.name) reaches, got \(address?.description ?? "one"), "
      + "which \(other) does"
  }

  private func established(_ data: [UInt8]) {
    let queuePair = state.withLock { state -> RDMAQueuePair? in
      guard !state.hasEnded, !state.isConnected else { return nil }
      state.isConnected = true
      state.deadline = nil
      return state.queuePair
    }
    guard let queuePair else { return }
    guard let data = form.decode(data) else {
      return queuePair.fail(.failure("the peer's private data is longer than its message"))
    }
    guard queuePair.transition(from: .readyToReceive, to: .readyToSend) else { return }
    events.post(.established(queuePair, privateData: data))
  }

  // MARK: Ending

  /// The connection, if there is one, has ended by itself.
  private func ended(_ reason: DisconnectReason) {
    let (queuePair, isConnected) = state.withLock { ($0.queuePair, $0.isConnected) }
    guard isConnected else { return failed(.unreachable("the listener hung up")) }
    queuePair?.fail(reason)
  }

  private func removed() {
    let words = "\(device.name) was removed"
    let (queuePair, isConnected) = state.withLock { ($0.queuePair, $0.isConnected) }
    guard isConnected else { return failed(.unreachable(words)) }
    queuePair?.end(.failure(words))
  }

  /// There was no connection, and there will be none.
  private func failed(_ error: ConnectError) {
    let (queuePair, isConnected) = state.withLock { state in
      defer { state.deadline = nil }
      return (state.queuePair, state.isConnected)
    }
    guard let queuePair else { return }
    if isConnected { return queuePair.fail(.failure(error.description)) }
    let wasConnecting = queuePair.state == .readyToReceive
    queuePair.fail(.failure(error.description))
    if wasConnecting { events.post(.failed(queuePair, error)) }
  }

  func expire(at now: MonotonicTime) {
    let isLate = state.withLock { state in
      guard let deadline = state.deadline, deadline <= now else { return false }
      return true
    }
    if isLate { failed(.timedOut("\(address?.description ?? "the peer") did not answer in time")) }
  }

  /// Tells the peer that this is the end.
  func hangUp() {
    let isConnected = state.withLock { $0.isConnected && !$0.hasEnded }
    if isConnected { unsafe rdma_disconnect(identifier) }
  }

  /// Tells the user of the queue pair's end.
  func tell(_ queuePair: RDMAQueuePair, _ reason: DisconnectReason) {
    events.post(.disconnected(queuePair, reason))
  }

  /// Nothing more is heard of it; the identifier goes with the last reference.
  func end() {
    let tag = state.withLock { state in
      state.hasEnded = true
      state.queuePair = nil
      return state.tag
    }
    events.remove(tag)
  }

  /// Some devices connect, and fail to, within the call.
  private static func words(_ error: Errno, _ place: String) -> ConnectError {
    switch error {
    case .connectionRefused: .unreachable("nobody listens at \(place)")
    case .hostUnreachable, .networkUnreachable, .timedOut:
      .unreachable("\(place) does not answer: \(error)")
    default: .system(error, doing: "connecting to \(place)")
    }
  }

  private func error(of news: ConnectionNews) -> ConnectError {
    let place = address?.description ?? "the peer"
    switch news.kind {
    case RDMA_CM_EVENT_REJECTED:
      let data = form.decode(news.privateData) ?? []
      // 28: the listener's own refusal; what else there is comes from its kernel. Over iWARP a refusal
      // without data looks like nobody, but for siw, which finds nobody within the call.
      let isRefusal =
        device.isIWARP ? !data.isEmpty || device.isSoftwareIWARP : news.status == 28
      if isRefusal { return .rejected(data) }
      return .unreachable("nobody listens at \(place)")
    case RDMA_CM_EVENT_ADDR_ERROR, RDMA_CM_EVENT_ROUTE_ERROR:
      return .unreachable(
        "there is no way to \(place) by RDMA: \(Errno(rawValue: abs(news.status)))")
    case RDMA_CM_EVENT_UNREACHABLE:
      return .unreachable("\(place) does not answer: \(Errno(rawValue: abs(news.status)))")
    default:
      return .unreachable("connecting to \(place) failed: \(Errno(rawValue: abs(news.status)))")
    }
  }
}
