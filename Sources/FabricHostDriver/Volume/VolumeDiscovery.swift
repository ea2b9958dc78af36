import FabricCompletion
public import FabricIOProtocol
public import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs

/// Asks a unit which volumes it serves. (IO-40)
public enum VolumeDiscovery {
  /// A unit's answer.
  public struct Listing: Sendable {
    public let unitName: String
    /// In bytewise order of names.
    public let volumes: [VolumeEntry.Volume]
    /// Where the unit says it can be reached, in the order that it was given. (IO-43)
    public let addresses: [AddressEntry.Address]

    public init(
      unitName: String, volumes: [VolumeEntry.Volume], addresses: [AddressEntry.Address] = []
    ) {
      self.unitName = unitName
      self.volumes = volumes
      self.addresses = addresses
    }
  }

  /// A unit that hangs up is asked again until the time is over.
  ///
  /// - Parameters:
  ///   - key: as in `RemoteVolumeQueue.Options`.
  ///   - timeout: for all of it.
  /// - Throws: `RemoteVolumeError`.
  public static func list(
    _ address: VolumeAddress, adapter: any Adapter,
    hostName: String = RemoteVolumeQueue.Options().hostName, key: (any ChannelKey)? = nil,
    timeout: Duration = .seconds(5)
  ) async throws(RemoteVolumeError) -> Listing {
    let service: CompletionService
    let endpoint: ChannelEndpoint
    do throws(ResourceError) {
      var options = CompletionService.Options()
      options.threadCount = 1
      service = try CompletionService(options)
    } catch { throw .resource(error.description) }
    do throws(ChannelOpenError) {
      endpoint = try ChannelEndpoint(adapter: adapter, service: service)
    } catch {
      service.stop()
      throw .resource(error.description)
    }
    let end = MonotonicTime.now + timeout
    var backoff = Backoff()
    var generator = SystemRandomNumberGenerator()
    var result: Result<Listing, RemoteVolumeError>
    var hungUp: Result<Listing, RemoteVolumeError>?
    while true {
      let rest = Duration.nanoseconds(end.nanoseconds(since: .now))
      result = await withCheckedContinuation { continuation in
        let inquiry = Inquiry(address) { continuation.resume(returning: $0) }
        service.execute {
          inquiry.begin(endpoint, hostName: key?.name ?? hostName, key: key, timeout: rest)
        }
      }
      // As with volumes: who was unlucky in a flood asks again. That it was hung up on tells more
      // than that the last attempt had no time left.
      guard case .failure(.turnedAway) = result else {
        if let hungUp, case .failure = result, end <= .now { result = hungUp }
        break
      }
      hungUp = result
      let wait = backoff.next(using: &generator)
      guard .now + wait < end else { break }
      try? await Task.sleep(for: wait)
    }
    await withCheckedContinuation { continuation in
      service.execute {
        endpoint.close()
        service.execute { continuation.resume() }
      }
    }
    service.stop()
    return try result.get()
  }
}

/// One listing under way. Confined to the service's thread.
private final class Inquiry: ChannelHandler, @unchecked Sendable {
  private let address: VolumeAddress
  private var completed: ((Result<VolumeDiscovery.Listing, RemoteVolumeError>) -> Void)?
  private var unitName = ""
  private var volumes: [VolumeEntry.Volume] = []
  /// Of the unit; asked for when the volumes are known.
  private var addresses: [AddressEntry.Address] = []
  private var asksAddresses = false

  init(
    _ address: VolumeAddress,
    _ completed: @escaping (Result<VolumeDiscovery.Listing, RemoteVolumeError>) -> Void
  ) {
    self.address = address
    self.completed = completed
  }

  func begin(
    _ endpoint: ChannelEndpoint, hostName: String, key: (any ChannelKey)?, timeout: Duration
  ) {
    var options = ChannelOptions()
    options.key = key
    options.bufferCount = 0
    do {
      options.greeting = try HostOpening(
        volumeName: "", hostName: hostName, session: .random(), access: .readOnly, depth: 1
      ).encoded()
    } catch { return end(.failure(.resource(error.description))) }
    endpoint.connect(
      to: address.unit, options: options, timeout: timeout, handler: self
    ) { [self] result in
      switch result {
      case .success(let channel):
        do {
          unitName = try UnitOpening(decoding: channel.peerGreeting).unitName
          ask(channel)
        } catch { end(.failure(.unreachable(address: address, reason: "\(address): \(error)"))) }
      case .failure(let error):
        end(.failure(.opening(error, of: address)))
      }
    }
  }

  private func ask(_ channel: Channel) {
    // One question at a time: there is always a credit for it.
    let refusal =
      asksAddresses
      ? channel.send(
        kind: MessageKind.addressQuery.rawValue, tag: UInt32(addresses.count),
        bytes: AddressQuery(UInt16(addresses.count)).encoded())
      : channel.send(
        kind: MessageKind.volumeQuery.rawValue, tag: UInt32(volumes.count),
        bytes: VolumeQuery(after: volumes.last?.name ?? "").encoded())
    if let refusal { return fail("\(refusal)") }
    channel.flush()
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      guard completed != nil else { return }
      let isKnown = asksAddresses ? takeAddress(messages[index]) : takeVolume(messages[index])
      guard isKnown else { return }
      if completed != nil { ask(channel) }
    }
  }

  /// False when the inquiry has ended with it.
  private func takeVolume(_ message: IncomingMessage) -> Bool {
    guard message.kind == MessageKind.volumeEntry.rawValue,
      let entry = try? VolumeEntry(decoding: message.payload)
    else {
      fail("the unit sent something else than a list of its volumes")
      return false
    }
    guard let volume = entry.volume else {
      asksAddresses = true
      return true
    }
    let previous = Array((volumes.last?.name ?? "").utf8)
    guard previous.lexicographicallyPrecedes(Array(volume.name.utf8)), volumes.count < 65536
    else {
      fail("the unit's list of volumes has no end")
      return false
    }
    volumes.append(volume)
    return true
  }

  /// False when the inquiry has ended with it.
  private func takeAddress(_ message: IncomingMessage) -> Bool {
    guard message.kind == MessageKind.addressEntry.rawValue,
      let entry = try? AddressEntry(decoding: message.payload)
    else {
      fail("the unit sent something else than a list of its addresses")
      return false
    }
    guard let address = entry.address else {
      end(.success(.init(unitName: unitName, volumes: volumes, addresses: addresses)))
      return false
    }
    guard addresses.count < 1024 else {
      fail("the unit's list of addresses has no end")
      return false
    }
    addresses.append(address)
    return true
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    end(.failure(.turnedAway(address: address, reason: "\(reason)")))
  }

  private func fail(_ reason: String) {
    end(.failure(.unreachable(address: address, reason: "\(address): \(reason)")))
  }

  private func end(_ result: Result<VolumeDiscovery.Listing, RemoteVolumeError>) {
    let completed = self.completed
    self.completed = nil
    completed?(result)
  }
}
