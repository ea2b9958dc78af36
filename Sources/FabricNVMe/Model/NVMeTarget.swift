public import FabricCompletion
public import FabricPlatform
public import FabricStorage

/// An NVM subsystem on a service's thread: hears of volumes from the common layer, and of time.
///
/// Threads: as each member says; those of `subsystem` are the service's first thread's.
public final class NVMeTarget: Subsystem, TimedSource, @unchecked Sendable {
  public let name: String
  /// The service's first thread's.
  public let subsystem: NVMSubsystem
  private let service: CompletionService
  private var registration: Registration!

  /// On any thread but the service's.
  ///
  /// - Throws: `.duplicateSubsystem`.
  public init(
    options: NVMSubsystem.Options, layer: CommonLayer, service: CompletionService,
    volumes: [Volume]
  ) throws(CommonLayerError) {
    name = "NVM subsystem \(options.name)"
    subsystem = NVMSubsystem(options: options)
    self.service = service
    // In the order given, before others come: their numbers follow from that.
    for volume in volumes { subsystem.add(volume) }
    registration = try layer.register(self)
    service.add(self as any TimedSource)
  }

  /// Lets hosts that ask know of ways in. Any thread.
  public func add(_ entries: [DiscoveryEntry]) {
    service.execute { [self] in for entry in entries { subsystem.add(entry) } }
  }

  /// Ends all controllers. On any thread but the service's; when the transports have stopped.
  public func stop() {
    guard registration != nil else { return }
    service.execute { [self] in subsystem.shutDown() }
    service.remove(self as any TimedSource)
    registration.deregister()
    registration = nil
  }

  public func volumeAdded(_ volume: Volume) {
    service.execute { [self] in subsystem.add(volume) }
  }

  public func volumeGrown(_ volume: Volume) {
    service.execute { [self] in subsystem.changed(volume) }
  }

  public func volumeRemoved(_ volume: Volume) {
    service.execute { [self] in subsystem.remove(volume) }
  }

  // MARK: Time

  /// To be said on the service's thread when a controller has come or changed its time-out.
  public func deadlinesMayHaveChanged() { service.deadlinesHaveChanged() }

  public var nextDeadline: MonotonicTime? { subsystem.nextDeadline }

  public func progress(at now: MonotonicTime) -> Int { subsystem.expire(at: now) }
}
