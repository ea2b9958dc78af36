import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// Listens at an IP address by the connection manager.
@safe
final class RDMAListener: Listener, IdentifierOwner, @unchecked Sendable {
  let address: FabricAddress
  private let identifier: UnsafeMutablePointer<rdma_cm_id>
  private let device: OpenDevice
  private let events: RDMAEventChannel
  private let ways: RDMAWays
  private let tag = Atomic<UInt>(0)
  private let isOpen = Atomic<Bool>(true)

  init(
    at host: InternetAddress, _ device: OpenDevice, events: RDMAEventChannel, ways: RDMAWays
  ) throws(ConnectError) {
    var made: UnsafeMutablePointer<rdma_cm_id>?
    let wanted = FabricAddress(fabric: "rdma", endpoint: host.description)
    guard unsafe rdma_create_id(events.handle, &made, nil, RDMA_PS_TCP) == 0,
      let identifier = unsafe made
    else { throw .system(Errno.current, doing: "making an identifier to listen with") }
    do throws(Errno) {
      try Errno.check {
        unsafe fabric_rdma_bind(identifier, host.host, CInt(host.host.count), host.port)
      }
      try Errno.check { unsafe rdma_listen(identifier, 128) }
    } catch {
      unsafe rdma_destroy_id(identifier)
      throw Self.words(error, wanted)
    }
    // An address of all interfaces is of no device.
    if let other = unsafe identifier.deviceName, other != device.name {
      unsafe rdma_destroy_id(identifier)
      throw .invalidAddress(
        "expected an address of \(device.name), got \(wanted), which is of \(other)")
    }
    unsafe self.identifier = unsafe identifier
    self.device = device
    self.events = events
    self.ways = ways
    let port = unsafe fabric_rdma_port(identifier)
    address = FabricAddress(fabric: "rdma", endpoint: host.with(port: port).description)
    tag.store(unsafe events.add(self, identifier), ordering: .relaxed)
  }

  private static func words(_ error: Errno, _ address: FabricAddress) -> ConnectError {
    switch error {
    case .addressInUse: .addressInUse("somebody listens at \(address) already")
    case .addressNotAvailable, .noDevice:
      .invalidAddress(
        "expected an address of an RDMA device of this machine, got \(address): `iohost discover "
          + "--fabrics` lists them")
    default: .system(error, doing: "listening at \(address)")
    }
  }

  deinit { close() }

  func close() {
    guard isOpen.exchange(false, ordering: .acquiringAndReleasing) else { return }
    events.remove(tag.load(ordering: .relaxed))
    unsafe rdma_destroy_id(identifier)
  }

  func heard(_ news: ConnectionNews) {
    guard news.kind == RDMA_CM_EVENT_CONNECT_REQUEST, let asked = unsafe news.identifier
    else { return }
    // What listens at all addresses hears of other devices' peers, too.
    guard unsafe asked.deviceName == device.name,
      let data = PrivateData.decode(news.privateData, isIWARP: device.isIWARP)
    else {
      unsafe rdma_destroy_id(asked)
      return
    }
    events.post(
      .connectRequest(
        unsafe RDMAConnectionRequest(asked, device, privateData: data, ways: ways)))
  }

  func expire(at now: MonotonicTime) {}
}

/// A peer that has asked a listener.
@safe
final class RDMAConnectionRequest: ConnectionRequest, @unchecked Sendable {
  let privateData: [UInt8]
  let peerDescription: String
  private let device: OpenDevice
  private let ways: RDMAWays
  /// Until it is answered.
  @safe
  private struct Identifier: @unchecked Sendable {
    var value: UnsafeMutablePointer<rdma_cm_id>?
  }
  private let identifier: Mutex<Identifier>

  init(
    _ identifier: UnsafeMutablePointer<rdma_cm_id>, _ device: OpenDevice, privateData: [UInt8],
    ways: RDMAWays
  ) {
    self.identifier = Mutex(unsafe Identifier(value: identifier))
    self.device = device
    self.privateData = privateData
    self.ways = ways
    peerDescription = unsafe identifier.peerDescription
  }

  deinit { reject(privateData: []) }

  private func take() -> UnsafeMutablePointer<rdma_cm_id>? {
    unsafe identifier.withLock { unsafe $0.value.take() }
  }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard privateData.count <= PrivateData.limit(isIWARP: device.isIWARP) else {
      throw .privateDataTooLong
    }
    guard let queuePair = queuePair as? RDMAQueuePair, let events = events as? RDMAEventChannel,
      queuePair.transition(from: .initialized, to: .readyToReceive)
    else { throw .invalidState }
    guard let taken = unsafe take() else { throw .invalidState }
    do throws(Errno) {
      // Before the identifier moves: what is told of it from then on finds its owner.
      let connection = unsafe RDMAConnection(
        taken, queuePair, to: nil, privateData: privateData, deadline: .now + .seconds(10),
        events: events, ways: ways)
      try Errno.check { unsafe rdma_migrate_id(taken, events.handle) }
      try connection.accept()
    } catch {
      queuePair.fail(.failure("accepting failed: \(error)"))
      throw .system(error, doing: "accepting a connection")
    }
  }

  func reject(privateData: [UInt8]) {
    guard let taken = unsafe take() else { return }
    let data = PrivateData.encode(
      Array(privateData.prefix(PrivateData.limit(isIWARP: device.isIWARP))),
      isIWARP: device.isIWARP)
    unsafe rdma_reject(taken, data, UInt8(data.count))
    unsafe rdma_destroy_id(taken)
  }
}
