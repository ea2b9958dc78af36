import FabricCompletion
public import FabricIOProtocol
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs

/// Serves the volumes of a common layer to hosts, at one or several addresses. The protocol is in
/// `Specs/IOProtocol.md`.
///
/// Threads: `init` and `stop` on any but the service's own; the work is done on one thread of a
/// completion service.
public final class IOUnitServer: Subsystem, @unchecked Sendable {
  public struct Options: Sendable {
    /// What the unit calls itself, an NQN-style name of at most 64 bytes.
    public var unitName = "nqn.2024-01.org.channelfabric:unit"
    /// Commands in flight on one connection.
    public var depth = 128
    /// Commands in flight in one volume's port, of all connections.
    public var portDepth = 1024
    /// The most bytes that one command transfers; also the size of a buffer that hosts write to.
    public var maximumTransferByteCount = 128 << 10
    /// Buffers of that size for each connection's writes.
    public var bufferCount = 32
    /// Elements of that size that reads from files go through, of all connections.
    public var readElementCount = 256
    /// Takes only hosts that prove one of these keys; nil: any host.
    public var keys: (any ChannelKeyring)?
    /// Which hosts may use which volumes; nil: every host all of them. Rights of hosts that prove
    /// no key are rights of whoever takes their name.
    public var rights: VolumeRights?
    /// Answers control calls of vendors (`ControlCode.isVendors`), on the unit's thread, with the name of
    /// the host that asks: as a host may call itself what it likes where no keys are proven. nil, or the
    /// answer nil: there is no such call.
    public var vendorCall:
      (@Sendable (_ host: String, _ volume: Volume, _ call: ControlCall) -> ControlAnswer?)?
    /// What hosts may come for besides volumes, at the same addresses.
    public var services: [any UnitService] = []
    /// Told of what an operator might want to know: one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  public let name: String
  /// Where it listens, in the order given; for a name its addresses, and where the port was left
  /// open, with the port.
  public private(set) var addresses: [FabricAddress] = []
  /// The first of them.
  public var address: FabricAddress { addresses[0] }
  private let fabric: UnitFabric
  private var registration: Registration!
  private var shard: UnitShard!
  private var listeners: [ChannelListener] = []

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - fabric: also the maker of memory volumes that are to be read directly. Serves one unit.
  ///   - places: where to listen, at least one.
  /// - Throws: `IOUnitError`; nothing is left behind.
  public init(
    layer: CommonLayer, fabric: UnitFabric, places: [ListeningPlace], options: Options = .init()
  ) throws(IOUnitError) {
    precondition(!places.isEmpty, "a unit listens somewhere")
    self.fabric = fabric
    name = "io-unit \(places[0].address)"
    do throws(CommonLayerError) {
      registration = try layer.register(self)
    } catch { throw .subsystem(error.description) }
    do throws(RegistrationError) {
      shard = try UnitShard(
        options: options, layer: layer, fabric: fabric, service: fabric.service,
        registration: registration)
      try startServices(options.services)
    } catch {
      registration.deregister()
      throw .registration(error)
    }
    for place in places {
      do throws(ChannelOpenError) {
        let listener = try listen(at: place, options).get()
        listeners.append(listener)
        self.addresses += listener.addresses
      } catch {
        onThread { [self] shard in
          closeListeners()
          shard.stopServices()
        }
        registration.deregister()
        throw .listening(address: place.address, reason: error.description)
      }
    }
  }

  /// Serves at addresses that are all alike.
  public convenience init(
    layer: CommonLayer, fabric: UnitFabric, addresses: [FabricAddress], options: Options = .init()
  ) throws(IOUnitError) {
    try self.init(
      layer: layer, fabric: fabric, places: addresses.map { ListeningPlace($0) },
      options: options)
  }

  /// Serves at one address.
  public convenience init(
    layer: CommonLayer, fabric: UnitFabric, address: FabricAddress, options: Options = .init()
  ) throws(IOUnitError) {
    try self.init(layer: layer, fabric: fabric, addresses: [address], options: options)
  }

  private func listen(
    at place: ListeningPlace, _ options: Options
  ) -> Result<ChannelListener, ChannelOpenError> {
    guard let number = fabric.number(of: place.address.fabric) else {
      return .failure(
        .invalidOptions(
          "expected an address of one of the unit's fabrics, got \(place.address)"))
    }
    var channel = ChannelOptions()
    channel.bufferCount = options.bufferCount
    channel.bufferByteCount = options.maximumTransferByteCount
    channel.keys = options.keys
    return onThread { [fabric, channel] shard in
      Result { () throws(ChannelOpenError) in
        let unitPlace = UnitPlace(place, endpoint: number)
        let listener = try fabric.endpoints[number].listen(
          at: place.address, options: channel,
          accept: { greeting, peer in
            shard.accept(greeting: greeting, peer: peer, place: unitPlace)
          },
          opened: { channel in shard.opened(channel) },
          refused: { peer, reason in shard.logRefusal(of: peer, because: reason) })
        unitPlace.addresses = listener.addresses
        shard.add(unitPlace)
        return listener
      }
    }
  }

  private func startServices(_ services: [any UnitService]) throws(RegistrationError) {
    let fabric = fabric
    for service in services {
      try onThread { _ in
        Result { () throws(RegistrationError) in try service.start(on: fabric) }
      }.get()
    }
  }

  private func closeListeners() {
    for listener in listeners { listener.close() }
    listeners = []
  }

  /// Hosts connected to volumes. Waits for the unit's thread.
  public var connectionCount: Int { onThread { $0.connectionCount } }
  /// Elements of the read pool that are free. Waits for the unit's thread.
  public var freeReadElementCount: Int { onThread { $0.readPool.freeCount } }

  /// Changes the state of the paths through the place that was given with `address`, and tells the hosts
  /// that use them. (IO-61)
  ///
  /// - Returns: whether there is such a place.
  public func setPathState(_ state: PathState, at address: FabricAddress) -> Bool {
    onThread { shard in
      guard
        let place = shard.places.first(where: {
          $0.place.address == address || $0.addresses.contains(address)
        })
      else { return false }
      shard.setState(state, of: place)
      return true
    }
  }

  /// Accepts nobody any more, closes every connection in order, lets what was accepted end, and
  /// returns when nothing is called any more. The fabric's thread ends with it.
  public func stop() {
    guard shard != nil else { return }
    onThread { [self] shard in
      closeListeners()
      shard.stopServices()
      shard.closeAll()
    }
    registration.deregister()
    onThread { [self] _ in for endpoint in fabric.endpoints { endpoint.close() } }
    // An endpoint leaves the service in a job of its own.
    onThread { shard in shard.leaveService() }
    fabric.service.stop()
    // These hold each other.
    registration = nil
    shard = nil
  }

  public func portNeedsPoll(_ port: VolumePort) {
    let shard = UnsafeShard(shard: shard)
    fabric.service.execute { shard.shard.pollAll() }
  }

  /// Runs `body` on the unit's thread and returns what it returns.
  private func onThread<Value: Sendable>(_ body: @escaping @Sendable (UnitShard) -> Value) -> Value
  {
    let shard = UnsafeShard(shard: shard)
    return fabric.service.result(of: { body(shard.shard) })
  }

  private struct UnsafeShard: @unchecked Sendable {
    let shard: UnitShard
  }
}
