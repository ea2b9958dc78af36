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
    public var recovery = DeviceRecovery.fail
    /// A device was left by a process that died, and is served on.
    public var recovers = false

    public init() {}
  }

  private let connection: DeviceConnection
  private let settings: Settings
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
    self.settings = settings
    connection = DeviceConnection(service, options, tell: tell)
  }

  public func connect(
    _ addresses: [VolumeAddress], adapters: [any Adapter]
  ) throws(ChannelOpenError) {
    try connection.connect(addresses, adapters: adapters)
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
    try connection.serve { (volume, tell) throws(HostDeviceError) in
      var queues: [UBLKQueue] = []
      for index in 0..<queueCount {
        let queue = try UBLKQueue(
          volume, info: info, device: number, number: index, depth: depth, isReadOnly: isReadOnly,
          isEncoded: isEncoded, tell: tell)
        queue.start()
        queues.append(queue)
      }
      return queues
    }
  }

  public var blockDevice: (any HostBlockDevice)? { isStarted ? device : nil }
  public var fileName: String? { nil }

  public var figures: DeviceFigures { connection.figures }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    connection.withQueue(body)
  }

  public func giveUp() { connection.closeVolume() }

  /// Ends everything: what is under way ends with an error, then the disk goes, then the device.
  /// `flush` and `release` before it are the clean way.
  public func close() {
    connection.closeVolume()
    // The queues answer what the kernel still asks.
    device?.stop()
    connection.closeQueues()
    server = nil
    device?.abandon()
  }
}
