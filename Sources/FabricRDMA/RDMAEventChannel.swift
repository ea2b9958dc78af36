import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// What the connection manager says of one identifier, copied.
@safe
struct ConnectionNews {
  let kind: rdma_cm_event_type
  /// 0, a negative errno, or the reason of a refusal.
  let status: CInt
  let privateData: [UInt8]
  /// The new identifier of a connect request.
  let identifier: UnsafeMutablePointer<rdma_cm_id>?
}

/// Whoever has an identifier on an event channel.
protocol IdentifierOwner: AnyObject, Sendable {
  func heard(_ news: ConnectionNews)
  /// Called now and then, for time-outs.
  func expire(at now: MonotonicTime)
}

/// Turns the connection manager's events, and the device's own, into ours.
@safe
final class RDMAEventChannel: ConnectionEventChannel, @unchecked Sendable {
  private struct State {
    /// By the tag that the identifier carries as its context. Others keep them.
    var owners: [UInt: Owner] = [:]
    var events: [ConnectionEvent] = []
  }

  private struct Owner {
    weak var owner: (any IdentifierOwner)?
  }

  private enum Tag {
    static let wakeUp: UInt64 = 0
    static let connections: UInt64 = 1
    static let device: UInt64 = 2
  }

  private static let nextTag = Atomic<UInt>(1)
  let handle: UnsafeMutablePointer<rdma_event_channel>
  private let device: OpenDevice
  private let poller: Poller
  private let wakeUp: EventDescriptor
  private let state = Mutex(State())
  private var nextExpiry = MonotonicTime(nanoseconds: 0)

  init(_ device: OpenDevice) throws(Errno) {
    guard let handle = unsafe rdma_create_event_channel() else { throw Errno.current }
    unsafe self.handle = handle
    self.device = device
    do throws(Errno) {
      poller = try Poller()
      wakeUp = try EventDescriptor()
      try Errno.check { unsafe fabric_verbs_unblock(handle.pointee.fd) }
      try poller.add(wakeUp.descriptor.rawValue, tag: Tag.wakeUp)
      try poller.add(unsafe handle.pointee.fd, tag: Tag.connections)
      try poller.add(device.events.descriptor, tag: Tag.device)
    } catch {
      unsafe rdma_destroy_event_channel(handle)
      throw error
    }
  }

  deinit { unsafe rdma_destroy_event_channel(handle) }

  var descriptor: CInt? { poller.descriptor.rawValue }

  // MARK: Polling

  func poll() -> ConnectionEvent? {
    if let event = takeEvent() { return event }
    poller.wait(timeout: .zero) { tag in
      switch tag {
      case Tag.wakeUp: wakeUp.clear()
      case Tag.connections: takeNews()
      default: device.events.take()
      }
    }
    let now = MonotonicTime.now
    if nextExpiry <= now {
      nextExpiry = now + .milliseconds(50)
      for entry in state.withLock({ Array($0.owners.values) }) { entry.owner?.expire(at: now) }
    }
    return takeEvent()
  }

  private func takeEvent() -> ConnectionEvent? {
    state.withLock { $0.events.isEmpty ? nil : $0.events.removeFirst() }
  }

  /// Everything is copied before the event is acknowledged, and told afterwards: an identifier
  /// cannot be destroyed while one of its events is not acknowledged. A device that goes is told of first: the
  /// peers whom it is taken from hang up.
  private func takeNews() {
    var gathered: [(tag: UInt, news: ConnectionNews)] = []
    var event: UnsafeMutablePointer<rdma_cm_event>?
    while unsafe rdma_get_cm_event(handle, &event) == 0, let taken = unsafe event {
      let listener = unsafe taken.pointee.listen_id
      let tag = unsafe UInt(bitPattern: (listener ?? taken.pointee.id).pointee.context)
      let connection = unsafe taken.pointee.param.conn
      let data = unsafe UnsafeRawBufferPointer(
        start: connection.private_data,
        count: connection.private_data == nil ? 0 : Int(connection.private_data_len))
      let news = unsafe ConnectionNews(
        kind: taken.pointee.event, status: taken.pointee.status, privateData: [UInt8](data),
        identifier: listener == nil ? nil : taken.pointee.id)
      unsafe rdma_ack_cm_event(taken)
      gathered.append((tag, news))
    }
    for (tag, news) in gathered where news.kind == RDMA_CM_EVENT_DEVICE_REMOVAL { tell(news, tag) }
    for (tag, news) in gathered where news.kind != RDMA_CM_EVENT_DEVICE_REMOVAL { tell(news, tag) }
  }

  private func tell(_ news: ConnectionNews, _ tag: UInt) {
    if let owner = state.withLock({ $0.owners[tag]?.owner }) {
      owner.heard(news)
    } else if let orphan = unsafe news.identifier {
      unsafe rdma_destroy_id(orphan)
    }
  }

  func post(_ event: ConnectionEvent) {
    state.withLock { $0.events.append(event) }
    wakeUp.signal()
  }

  // MARK: Identifiers

  /// Tells `owner` of what happens to an identifier, which carries the returned tag from now on.
  func add(
    _ owner: any IdentifierOwner, _ identifier: UnsafeMutablePointer<rdma_cm_id>
  ) -> UInt {
    let tag = Self.nextTag.add(1, ordering: .relaxed).oldValue
    state.withLock { $0.owners[tag] = Owner(owner: owner) }
    unsafe identifier.pointee.context = UnsafeMutableRawPointer(bitPattern: tag)
    return tag
  }

  func remove(_ tag: UInt) { state.withLock { _ = $0.owners.removeValue(forKey: tag) } }
}
