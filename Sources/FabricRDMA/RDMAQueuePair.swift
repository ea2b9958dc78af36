import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// A reliable connection's end on a device. Made apart from the connection manager's identifier, so
/// that receives can be posted before anybody has connected.
@safe
final class RDMAQueuePair: QueuePair, @unchecked Sendable {
  let device: OpenDevice
  let handle: UnsafeMutablePointer<ibv_qp>
  let number: UInt32
  let domain: RDMAProtectionDomain
  let sendCompletionQueue: RDMACompletionQueue
  let receiveCompletionQueue: RDMACompletionQueue
  let sends: SendRing
  /// Where sends are put together for the device.
  let list = SendList()
  let receives: ReceiveRing
  let sharedReceives: RDMASharedReceiveQueue?
  let sendKinds: SendKinds

  /// The first requests that were posted in the error state, or of which the device tells no more than
  /// what lies in the completion queue already.
  let lateSends = LateRequests()
  let lateReceives = LateRequests()
  /// A send has failed whose end was told. The polling thread's.
  var hasFailedSend = false

  private let stateWord = Atomic<UInt8>(QueuePairState.initialized.rawValue)
  /// Set while it is being connected; cleared at the end.
  private let link = Mutex<RDMAConnection?>(nil)
  /// The device has ended it, and nobody has said why yet.
  private let isEndedByDevice = Atomic<Bool>(false)
  /// Until `destroy`.
  private let isOnDevice = Mutex(true)

  init(_ device: OpenDevice, _ attributes: QueuePairAttributes) throws(ResourceError) {
    guard let domain = attributes.protectionDomain as? RDMAProtectionDomain,
      let sendQueue = attributes.sendCompletionQueue as? RDMACompletionQueue,
      let receiveQueue = attributes.receiveCompletionQueue as? RDMACompletionQueue,
      domain.device === device, sendQueue.device === device, receiveQueue.device === device
    else { throw .foreignParts }
    var shared: RDMASharedReceiveQueue?
    if let queue = attributes.sharedReceiveQueue {
      shared = queue as? RDMASharedReceiveQueue
      guard shared != nil else { throw .foreignParts }
    }
    ElementsInPlace.check()
    let sends = SendRing(
      capacity: attributes.sendCapacity, keepsMemory: device.flushesRequestsAtFault)
    let receives = ReceiveRing(capacity: shared == nil ? attributes.receiveCapacity : 1)
    let largest = max(sends.deviceCapacity, receives.capacity)
    guard largest <= device.maximumRequestCount else {
      throw .invalidCapacity(
        "expected queues for at most \(device.maximumRequestCount) requests, which is what "
          + "\(device.name) has, got \(largest)")
    }
    unsafe handle = try unsafe Self.make(
      device, domain, sendQueue, receiveQueue, shared, sends: sends.deviceCapacity,
      receives: receives.capacity)
    number = unsafe handle.pointee.qp_num
    self.device = device
    self.domain = domain
    sendCompletionQueue = sendQueue
    receiveCompletionQueue = receiveQueue
    self.sends = sends
    self.receives = receives
    sharedReceives = shared
    sendKinds = SendKinds(of: device)
    do {
      try initialize()
    } catch {
      unsafe ibv_destroy_qp(handle)
      throw .system(error, doing: "initializing a queue pair")
    }
    attach()
  }

  private static func make(
    _ device: OpenDevice, _ domain: RDMAProtectionDomain, _ sendQueue: RDMACompletionQueue,
    _ receiveQueue: RDMACompletionQueue, _ shared: RDMASharedReceiveQueue?, sends: Int,
    receives: Int
  ) throws(ResourceError) -> UnsafeMutablePointer<ibv_qp> {
    var wanted = unsafe ibv_qp_init_attr()
    unsafe wanted.send_cq = unsafe sendQueue.handle
    unsafe wanted.recv_cq = unsafe receiveQueue.handle
    unsafe wanted.srq = unsafe shared?.handle
    unsafe wanted.qp_type = IBV_QPT_RC
    unsafe wanted.cap = ibv_qp_cap(
      max_send_wr: UInt32(sends), max_recv_wr: UInt32(receives),
      max_send_sge: UInt32(ScatterGatherList.maximumCount),
      max_recv_sge: UInt32(ScatterGatherList.maximumCount),
      max_inline_data: UInt32(device.maximumInlineByteCount))
    guard let handle = unsafe ibv_create_qp(domain.handle, &wanted) else {
      throw .refusal(Errno.current, doing: "making a queue pair on \(device.name)")
    }
    return unsafe handle
  }

  /// From here on receives may be posted.
  private func initialize() throws(Errno) {
    var attributes = ibv_qp_attr()
    attributes.qp_state = IBV_QPS_INIT
    attributes.port_num = device.port
    attributes.qp_access_flags =
      IBV_ACCESS_LOCAL_WRITE.rawValue | IBV_ACCESS_REMOTE_WRITE.rawValue
      | IBV_ACCESS_REMOTE_READ.rawValue
    var mask = IBV_QP_STATE.rawValue | IBV_QP_ACCESS_FLAGS.rawValue
    if !device.isIWARP { mask |= IBV_QP_PORT.rawValue | IBV_QP_PKEY_INDEX.rawValue }
    let result = unsafe ibv_modify_qp(handle, &attributes, CInt(mask))
    guard result == 0 else { throw Errno(rawValue: result) }
  }

  // MARK: Completion queues

  private var receivePossible: Int { sharedReceives == nil ? receives.capacity : 0 }

  /// Requests posted whose ends a completion queue has not told.
  func outstandingCount(on queue: RDMACompletionQueue) -> Int {
    (queue === sendCompletionQueue ? sends.count : 0)
      + (queue === receiveCompletionQueue ? receives.count : 0)
  }

  private func attach() {
    if sendCompletionQueue === receiveCompletionQueue {
      sendCompletionQueue.attach(self, possible: sends.capacity + receivePossible)
    } else {
      sendCompletionQueue.attach(self, possible: sends.capacity)
      receiveCompletionQueue.attach(self, possible: receivePossible)
    }
  }

  private func detach() {
    if sendCompletionQueue === receiveCompletionQueue {
      sendCompletionQueue.detach(self, possible: sends.capacity + receivePossible)
    } else {
      sendCompletionQueue.detach(self, possible: sends.capacity)
      receiveCompletionQueue.detach(self, possible: receivePossible)
    }
  }

  // MARK: State

  var state: QueuePairState { QueuePairState(rawValue: stateWord.load(ordering: .acquiring))! }

  @inline(__always)
  var isReadyToSend: Bool {
    stateWord.load(ordering: .acquiring) == QueuePairState.readyToSend.rawValue
  }

  /// Goes from one state to another; false when it was not in the first.
  func transition(from old: QueuePairState, to new: QueuePairState) -> Bool {
    stateWord.compareExchange(
      expected: old.rawValue, desired: new.rawValue, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// Belongs to a connection from now on.
  func join(_ connection: RDMAConnection) { link.withLock { $0 = connection } }

  /// Takes the attributes that the connection manager knows for a state, enters it, and returns them.
  @discardableResult
  func enter(
    _ state: ibv_qp_state, as identifier: UnsafeMutablePointer<rdma_cm_id>
  ) throws(Errno) -> ibv_qp_attr {
    var attributes = ibv_qp_attr()
    attributes.qp_state = state
    var mask: CInt = 0
    try Errno.check { unsafe rdma_init_qp_attr(identifier, &attributes, &mask) }
    let result = unsafe ibv_modify_qp(handle, &attributes, mask)
    guard result == 0 else { throw Errno(rawValue: result) }
    return attributes
  }

  // MARK: Ending

  /// Enters the error state for a reason behind which there may be another: what the device says of itself, or its
  /// port's state, is told rather than a request that failed because of it, or a peer who has heard of it first and
  /// hung up.
  func fail(_ reason: DisconnectReason) {
    guard state == .readyToSend, reason != .local else { return end(reason) }
    device.events.take()
    end(device.trouble.map { .failure($0) } ?? reason)
  }

  /// Enters the error state; the first caller's reason is announced.
  func end(_ reason: DisconnectReason) {
    let old = stateWord.exchange(QueuePairState.error.rawValue, ordering: .acquiringAndReleasing)
    guard old != QueuePairState.error.rawValue else { return }
    let connection = link.withLock { link in
      defer { link = nil }
      return link
    }
    // Told first, so that the peer hears of an end and not of a broken connection.
    connection?.hangUp()
    isOnDevice.withLock { isThere in
      guard isThere else { return }
      var attributes = ibv_qp_attr()
      attributes.qp_state = IBV_QPS_ERR
      _ = unsafe ibv_modify_qp(handle, &attributes, CInt(IBV_QP_STATE.rawValue))
    }
    if device.isSoftwareIWARP {
      lateSends.begin(at: 0)
      lateReceives.begin(at: 0)
      sendCompletionQueue.flushLate(self)
      receiveCompletionQueue.flushLate(self)
    }
    if old == QueuePairState.readyToSend.rawValue { connection?.tell(self, reason) }
    connection?.end()
  }

  /// The device flushes requests. Where it does so by itself, what it says of that lies among its
  /// events, or will come as one of the connection.
  func hasFlushed() {
    guard state == .readyToSend else { return }
    device.events.take()
    isEndedByDevice.store(true, ordering: .releasing)
  }

  func disconnect() {
    guard isEndedByDevice.load(ordering: .acquiring) else { return fail(.local) }
    fail(device.isIWARP ? .peer : .failure("\(device.name) ended the queue pair"))
  }

  func destroy() {
    end(.local)
    detach()
    device.events.remove(self)
    // Somebody else may be about to move it to the error state.
    isOnDevice.withLock { $0 = false }
    unsafe ibv_destroy_qp(handle)
  }
}
