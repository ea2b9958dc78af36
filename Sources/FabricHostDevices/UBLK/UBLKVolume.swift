import CFabricLinux
import CFabricUBLK
public import FabricCompletion
public import FabricHostDriver
public import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs

/// A remote volume as a device of the kernel's user-space block driver.
///
/// Threads: all calls come from one thread, which is not one of the service's; events come on the
/// service's thread. `service` has a thread of its own.
public final class UBLKVolume: HostVolume, @unchecked Sendable {
  public struct Settings: Sendable {
    /// How many queues the kernel has; it makes fewer where the machine has fewer processors.
    public var queueCount = 1
    /// How many requests of the kernel's are under way at most, in all queues; each has 1 MiB of
    /// memory.
    public var depth = 128
    public var recovery = UBLKRecovery.fail
    /// A device was left by a process that died, and is served on.
    public var recovers = false

    public init() {}
  }

  /// The service's thread's.
  private final class Served: @unchecked Sendable {
    var queue: RemoteVolumeQueue?
    var queues: [UBLKQueue] = []
  }

  private let service: CompletionService
  private let options: RemoteVolumeQueue.Options
  private let settings: Settings
  private let served = Served()
  private let events: Relay
  private let control = UBLKControl()
  private var device: UBLKDevice?
  private var isStarted = false
  /// Of `/dev/ublkcN`.
  private var server: Descriptor?

  /// - Parameters:
  ///   - service: with one thread of its own.
  ///   - tell: called on the service's thread.
  public init(
    service: CompletionService, options: RemoteVolumeQueue.Options, settings: Settings,
    tell: @escaping @Sendable (HostVolumeEvent) -> Void
  ) {
    self.service = service
    self.options = options
    self.settings = settings
    events = Relay(tell)
  }

  public func connect(
    _ addresses: [VolumeAddress], adapters: [any Adapter]
  ) throws(ChannelOpenError) {
    let result = service.result { [self] () -> Result<Void, ChannelOpenError> in
      // The thread that carries the kernel's requests on is not to wait for memory that they free.
      _ = fabric_set_io_flusher()
      do throws(ChannelOpenError) {
        let queue = try RemoteVolumeQueue(
          addresses, adapters: adapters, service: service, options: options, handler: events)
        served.queue = queue
        queue.attach()
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  public func makeDevice(
    _ info: RemoteVolumeInfo, in directory: String, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> any HostBlockDevice {
    let control = control
    let shape: ublksrv_ctrl_dev_info
    let device: UBLKDevice
    if settings.recovers {
      (device, shape) = try startRecovery(token)
      self.device = device
    } else {
      let mark = UBLKDevice.mark(of: token)
      let count = max(1, min(settings.queueCount, settings.depth))
      shape = try UBLKDevice.add(
        queueCount: count, depth: max(1, settings.depth / count), recovery: settings.recovery,
        mark: mark, control: control)
      device = UBLKDevice(number: shape.dev_id, mark: mark)
      self.device = device
      try device.describe(info, isReadOnly: isReadOnly, control: control)
    }
    try serve(info, shape, device, isReadOnly: isReadOnly)
    try HostDeviceError.doing("expected to start \(device.path)") { () throws(Errno) in
      let command = settings.recovers ? fabric_ublk_end_recovery : fabric_ublk_start_device
      try control.call(command, device.number, data: UInt64(getpid()))
    }
    isStarted = true
    return device
  }

  /// Finds the device that another process has served. The kernel notices that process's end by
  /// and by.
  private func startRecovery(
    _ token: String
  ) throws(HostDeviceError) -> (UBLKDevice, ublksrv_ctrl_dev_info) {
    guard let device = UBLKDevice.bound(with: token).first else {
      throw .missing("expected the device of \(token), found none; attach the volume again")
    }
    let deadline = MonotonicTime.now + .seconds(60)
    while true {
      do throws(Errno) {
        try control.call(fabric_ublk_start_recovery, device.number)
        break
      } catch {
        guard error.rawValue == EBUSY, MonotonicTime.now < deadline else {
          throw .system(error, doing: "expected to recover \(device.path)")
        }
      }
      // The driver tells of its state by this command only.
      _ = fabric_poll(nil, 0, 20)
    }
    guard let shape = control.info(of: device.number) else {
      throw .missing("expected the driver to know \(device.path)")
    }
    return (device, shape)
  }

  private func serve(
    _ info: RemoteVolumeInfo, _ shape: ublksrv_ctrl_dev_info, _ device: UBLKDevice,
    isReadOnly: Bool
  ) throws(HostDeviceError) {
    let server = try HostDeviceError.doing("expected to open \(device.serverPath)") {
      () throws(Errno) in
      try Descriptor(result: unsafe fabric_open_existing(device.serverPath, O_RDWR))
    }
    let number = server.rawValue
    self.server = consume server
    let queueCount = Int(shape.nr_hw_queues)
    let depth = Int(shape.queue_depth)
    let isEncoded = control.isEncoded
    let result = service.result { [self] () -> Result<Void, HostDeviceError> in
      guard let queue = served.queue else { return .success(()) }
      do throws(HostDeviceError) {
        for index in 0..<queueCount {
          served.queues.append(
            try UBLKQueue(
              queue, info: info, device: number, number: index, depth: depth,
              isReadOnly: isReadOnly, isEncoded: isEncoded
            ) { [events] in events.tell($0) })
        }
      } catch { return .failure(error) }
      events.queues = served.queues.map { UncountedReference($0) }
      for queue in served.queues {
        service.add(queue as any ProgressSource)
        queue.start()
      }
      return .success(())
    }
    try result.get()
  }

  public var blockDevice: (any HostBlockDevice)? { isStarted ? device : nil }
  public var hasFile: Bool { false }

  public var figures: DeviceFigures {
    service.result { [served] in
      served.queues.reduce(into: DeviceFigures()) { $0.add($1.figures) }
    }
  }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    service.result { [served] in body(served.queue) }
  }

  /// Ends everything: what is under way ends with an error, then the disk goes, then the device.
  /// `flush` and `release` before it are the clean way.
  public func close() {
    service.result { [served] in
      served.queue?.close()
      served.queue = nil
      for queue in served.queues { queue.finishBatch() }
    }
    // The queues answer what the kernel still asks.
    device?.stop()
    service.result { [service, served, events] in
      for queue in served.queues { service.remove(queue as any ProgressSource) }
      events.queues = []
      served.queues = []
    }
    server = nil
    device?.abandon()
  }

  /// Hears of the volume's queue, for the device's and for who asked.
  private final class Relay: RemoteVolumeHandler, @unchecked Sendable {
    let tell: @Sendable (HostVolumeEvent) -> Void
    var queues: [UncountedReference<UBLKQueue>] = []

    init(_ tell: @escaping @Sendable (HostVolumeEvent) -> Void) { self.tell = tell }

    func remoteVolume(
      _ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>
    ) {
      for place in completions.indices {
        let mark = completions[place].tag
        let status = completions[place].status
        queues[Int(mark >> 16)].with { $0.ended(Int(mark & 0xffff), status) }
      }
      for index in queues.indices { queues[index].with { $0.finishBatch() } }
    }

    func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
      tell(.changed(state))
    }
  }
}
