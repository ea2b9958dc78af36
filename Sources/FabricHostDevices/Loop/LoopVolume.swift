import CFabricLinux
public import FabricCompletion
public import FabricHostDriver
public import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs

/// A remote volume as a loop device of this machine: the connection to the unit, the file that is
/// served of it, and the device on that.
///
/// Threads: all calls come from one thread, which is not one of the service's; events come on the
/// service's thread. `service` has a thread of its own.
public final class LoopVolume: HostVolume, @unchecked Sendable {
  private let connection: DeviceConnection
  private let depth: Int
  private var mount: FileMount?
  private var device: LoopDevice?
  /// The service's thread's.
  private var served: VolumeFile?
  private var directory: String?
  private var token: String?

  /// - Parameters:
  ///   - service: with one thread of its own.
  ///   - depth: how many requests of the kernel's are under way at most; each has 1 MiB of memory.
  ///   - tell: called on the service's thread.
  public init(
    service: CompletionService, options: RemoteVolumeQueue.Options, depth: Int,
    tell: @escaping @Sendable (HostVolumeEvent) -> Void
  ) {
    self.depth = depth
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
    let fuse = try FileMount.openDevice()
    let mount = try FileMount(device: fuse.rawValue, source: token)
    let number = fuse.release()
    try connection.serve { [self] (volume, tell) throws(HostDeviceError) in
      let served = try VolumeFile(
        volume, info: info, device: Descriptor(owning: number), isReadOnly: isReadOnly,
        depth: depth, tell: tell)
      self.served = served
      return [served]
    }
    self.token = token
    // From here on the file is asked of by this very process: who watches it can end that only by the place.
    try mount.move(to: directory)
    self.directory = directory
    let file = try mount.openFile(isReadOnly: isReadOnly)
    self.mount = consume mount
    let device = try LoopDevice.bind(
      file, blockByteCount: info.blockByteCount, isReadOnly: isReadOnly, token: token)
    self.device = device
    return device
  }

  public var blockDevice: (any HostBlockDevice)? { device }
  public var fileName: String? { VolumeFile.name }

  public var figures: DeviceFigures { connection.figures }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    connection.withQueue(body)
  }

  public func grow(to info: RemoteVolumeInfo) throws(HostDeviceError) -> Bool {
    guard let device, let directory else { return false }
    connection.withQueue { [self] _ in served?.grow(to: info) }
    try device.takeSize(of: "\(directory)/\(VolumeFile.name)")
    return true
  }

  public func giveUp() { connection.closeVolume() }

  /// Ends everything, the device first. What is under way ends with an error, and a device that is in
  /// use goes when it is not: `LoopDevice.flush` and `release` before it are the clean way.
  public func close() {
    // Its number may be another's by now.
    if let token { for device in LoopDevice.bound(with: token) { device.abandon() } }
    connection.closeVolume()
    if let directory { try? FileMount.unmount(directory) }
    mount = nil
    connection.closeQueues()
    served = nil
  }
}
