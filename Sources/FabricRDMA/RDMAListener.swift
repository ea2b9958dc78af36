import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// Listens at all addresses of a device that a name stands for; port 0 chooses one for them, which `addresses`
/// then tells.
final class RDMAListener: Listener {
  let addresses: [FabricAddress]
  private let places: [ListeningPlace]

  var address: FabricAddress { addresses[0] }

  /// - Parameters:
  ///   - hosts: what a name stands for, at least one.
  ///   - log: told of those of several that are of no device, or another, and of a device that goes.
  init(
    at hosts: [InternetAddress], _ device: OpenDevice, events: RDMAEventChannel, ways: RDMAWays,
    form: PrivateDataForm, log: @escaping @Sendable (String) -> Void
  ) throws(ConnectError) {
    var places: [ListeningPlace] = []
    var left: [ConnectError] = []
    func listen(at host: InternetAddress) throws(ConnectError) {
      places.append(
        try ListeningPlace(
          at: host, device, events: events, ways: ways, form: form, log: log))
    }
    do throws(ConnectError) {
      // The manager takes a loopback address for all of a device, beside which there is no room for others.
      for host in hosts.filter({ !$0.isLoopback }) + hosts.filter(\.isLoopback) {
        let chosen = host.port == 0 ? places.first?.port : nil
        do throws(ConnectError) {
          try listen(at: host.with(port: chosen ?? host.port))
        } catch {
          switch error {
          // A port that was chosen for the first address is taken at this one.
          case .addressInUse where chosen != nil: try listen(at: host)
          case .invalidAddress: left.append(error)
          default: throw error
          }
        }
      }
      if places.isEmpty { throw left[0] }
    } catch {
      for place in places { place.close() }
      throw error
    }
    for error in left { log("rdma: not listened at everywhere: \(error)") }
    self.places = places
    addresses = places.map(\.address)
  }

  func close() { for place in places { place.close() } }

  deinit { close() }
}

/// Listens at one IP address by the connection manager.
@safe
private final class ListeningPlace: IdentifierOwner, @unchecked Sendable {
  let address: FabricAddress
  let port: UInt16
  private let identifier: UnsafeMutablePointer<rdma_cm_id>
  private let device: OpenDevice
  private let events: RDMAEventChannel
  private let ways: RDMAWays
  private let form: PrivateDataForm
  private let log: @Sendable (String) -> Void
  private let tag = Atomic<UInt>(0)
  private let isOpen = Atomic<Bool>(true)

  init(
    at host: InternetAddress, _ device: OpenDevice, events: RDMAEventChannel, ways: RDMAWays,
    form: PrivateDataForm, log: @escaping @Sendable (String) -> Void
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
    self.form = form
    self.log = log
    port = unsafe fabric_rdma_port(identifier)
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
    if news.kind == RDMA_CM_EVENT_DEVICE_REMOVAL {
      log(
        "\(device.name) was removed: nobody is heard at \(address) any more; end this program, and start "
          + "it again when the device is back")
      return close()
    }
    guard news.kind == RDMA_CM_EVENT_CONNECT_REQUEST, let asked = unsafe news.identifier
    else { return }
    // What listens at all addresses hears of other devices' peers, too.
    guard unsafe asked.deviceName == device.name,
      let data = form.decode(news.privateData)
    else {
      unsafe rdma_destroy_id(asked)
      return
    }
    events.post(
      .connectRequest(
        unsafe RDMAConnectionRequest(asked, device, privateData: data, ways: ways, form: form)))
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
  private let form: PrivateDataForm
  /// Until it is answered.
  @safe
  private struct Identifier: @unchecked Sendable {
    var value: UnsafeMutablePointer<rdma_cm_id>?
  }
  private let identifier: Mutex<Identifier>

  init(
    _ identifier: UnsafeMutablePointer<rdma_cm_id>, _ device: OpenDevice, privateData: [UInt8],
    ways: RDMAWays, form: PrivateDataForm
  ) {
    self.identifier = Mutex(unsafe Identifier(value: identifier))
    self.device = device
    self.privateData = privateData
    self.ways = ways
    self.form = form
    peerDescription = unsafe identifier.peerDescription
  }

  deinit { reject(privateData: []) }

  private func take() -> UnsafeMutablePointer<rdma_cm_id>? {
    unsafe identifier.withLock { unsafe $0.value.take() }
  }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard privateData.count <= form.limit else {
      throw .privateDataTooLong
    }
    guard let queuePair = queuePair as? RDMAQueuePair, let events = events as? RDMAEventChannel,
      queuePair.transition(from: .initialized, to: .readyToReceive)
    else { throw .invalidState }
    guard let taken = unsafe take() else { throw .invalidState }
    do throws(Errno) {
      // Before the identifier moves: what is told of it from then on finds its owner.
      let connection = unsafe RDMAConnection(
        taken, queuePair, to: nil, privateData: privateData, form: form,
        deadline: .now + .seconds(10),
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
    let data = form.encode(Array(privateData.prefix(form.limit)))
    unsafe rdma_reject(taken, data, UInt8(data.count))
    unsafe rdma_destroy_id(taken)
  }
}
