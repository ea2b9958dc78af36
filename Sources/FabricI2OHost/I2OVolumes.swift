import FabricCompletion
public import FabricHostDriver
import FabricI2O
import FabricIOProtocol
public import FabricMessaging
import FabricStorage
public import FabricVerbs

/// Volumes that a unit shows as I2O devices.
public enum I2OVolumes {
  /// Attaches one: a `RemoteVolume` as any other, but for what the protocol has no message for, and for
  /// a lost connection, which is not made again.
  ///
  /// - Throws: `RemoteVolumeError`.
  public static func attach(
    _ address: VolumeAddress, adapter: any Adapter, options: RemoteVolume.Options = .init()
  ) async throws(RemoteVolumeError) -> RemoteVolume {
    try await RemoteVolume.attach(adapter: adapter, depth: options.depth) {
      service, sink throws(ChannelOpenError) in
      let relay = Relay(sink)
      let queue = try I2OVolumeQueue(
        address, adapter: adapter, service: service, options: options, handler: relay)
      queue.keptHandler = relay
      return queue
    }
  }

  /// Asks a unit for all of its devices that this host may use.
  ///
  /// - Parameters:
  ///   - key: as in `RemoteVolumeQueue.Options`.
  ///   - timeout: for one attempt to connect.
  /// - Throws: `RemoteVolumeError`.
  public static func list(
    _ address: VolumeAddress, adapter: any Adapter,
    hostName: String = RemoteVolumeQueue.Options().hostName, key: (any ChannelKey)? = nil,
    timeout: Duration = .seconds(5)
  ) async throws(RemoteVolumeError) -> VolumeDiscovery.Listing {
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
    let result = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<VolumeDiscovery.Listing, RemoteVolumeError>, Never>)
      in
      let inquiry = Inquiry(address, endpoint) { continuation.resume(returning: $0) }
      service.execute { inquiry.begin(hostName: hostName, key: key, timeout: timeout) }
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

  /// A listing under way. Confined to the service's thread.
  private final class Inquiry: @unchecked Sendable {
    private var session: I2OSession!

    init(
      _ address: VolumeAddress, _ endpoint: ChannelEndpoint,
      _ completed: @escaping (Result<VolumeDiscovery.Listing, RemoteVolumeError>) -> Void
    ) {
      session = I2OSession(address, endpoint: endpoint, wanted: nil) { [self] result in
        session.end()
        session = nil
        completed(result.map(Self.listing))
      }
    }

    func begin(hostName: String, key: (any ChannelKey)?, timeout: Duration) {
      session.begin(hostName: hostName, key: key, depth: 8, timeout: timeout)
    }

    private static func listing(_ findings: I2OSession.Findings) -> VolumeDiscovery.Listing {
      VolumeDiscovery.Listing(
        unitName: findings.unitName,
        volumes: findings.devices.map { _, facts in
          VolumeEntry.Volume(
            name: facts.name, identifier: facts.identifier,
            blockByteCount: facts.blockByteCount,
            blockCount: facts.byteCount / UInt64(facts.blockByteCount),
            access: facts.isReadOnly ? .readOnly : .readWrite)
        }.sorted { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) })
    }
  }

  /// Hears of a queue for a sink.
  private final class Relay: I2OVolumeHandler {
    private let sink: any VolumeRequestSink

    init(_ sink: any VolumeRequestSink) { self.sink = sink }

    func i2oVolume(_ queue: I2OVolumeQueue, completed completions: Span<BlockCompletion>) {
      sink.completed(completions)
    }

    func i2oVolume(_ queue: I2OVolumeQueue, changed state: RemoteVolumeQueue.State) {
      sink.changed(state)
    }
  }
}
