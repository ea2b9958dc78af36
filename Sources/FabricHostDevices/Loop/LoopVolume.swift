import CFabricLinux
public import FabricCompletion
public import FabricHostDriver
public import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs
import Synchronization

/// A remote volume as a loop device of this machine: the connection to the unit, the file that is
/// served of it, and the device on that.
///
/// Threads: all calls come from one thread, which is not one of the service's; events come on the
/// service's thread. `service` has a thread of its own.
public final class LoopVolume: HostVolume, @unchecked Sendable {
  public typealias Event = HostVolumeEvent

  /// The service's thread's.
  private final class Served: @unchecked Sendable {
    var queue: RemoteVolumeQueue?
    var file: VolumeFile?
  }

  private let service: CompletionService
  private let options: RemoteVolumeQueue.Options
  private let depth: Int
  private let served = Served()
  private let events: Relay
  private var mount: FileMount?
  public private(set) var device: LoopDevice?
  private var directory: String?
  private var token: String?

  /// - Parameters:
  ///   - service: with one thread of its own.
  ///   - depth: how many requests of the kernel's are under way at most; each has 1 MiB of memory.
  ///   - tell: called on the service's thread.
  public init(
    service: CompletionService, options: RemoteVolumeQueue.Options, depth: Int,
    tell: @escaping @Sendable (Event) -> Void
  ) {
    self.service = service
    self.options = options
    self.depth = depth
    events = Relay(tell)
  }

  /// Starts to connect; `Event.changed` tells how it goes.
  ///
  /// - Parameters: as of `RemoteVolumeQueue`.
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
        events.served = served
        queue.attach()
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Makes the device, once the volume is attached.
  ///
  /// - Parameters:
  ///   - directory: an empty one, where the file is to be reached.
  ///   - token: what the device tells of itself, at most 63 bytes.
  public func expose(
    _ info: RemoteVolumeInfo, in directory: String, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> LoopDevice {
    let fuse = try FileMount.openDevice()
    let mount = try FileMount(device: fuse.rawValue, source: token)
    let number = fuse.release()
    let result = service.result { [self] () -> Result<Void, HostDeviceError> in
      guard let queue = served.queue else { return .success(()) }
      do throws(HostDeviceError) {
        let file = try VolumeFile(
          queue, info: info, device: Descriptor(owning: number), isReadOnly: isReadOnly,
          depth: depth
        ) { [events] in events.tell($0) }
        served.file = file
        events.fileReference = UncountedReference(file)
        service.add(file as any ProgressSource)
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
    self.token = token
    let file = try mount.openFile(isReadOnly: isReadOnly)
    try mount.move(to: directory)
    self.directory = directory
    self.mount = consume mount
    let device = try LoopDevice.bind(
      file, blockByteCount: info.blockByteCount, isReadOnly: isReadOnly, token: token)
    self.device = device
    return device
  }

  /// What the device was asked for.
  public var figures: DeviceFigures {
    service.result { [served] in served.file?.figures ?? DeviceFigures() }
  }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    service.result { [served] in body(served.queue) }
  }

  public var blockDevice: (any HostBlockDevice)? { device }
  public var hasFile: Bool { true }

  public func makeDevice(
    _ info: RemoteVolumeInfo, in directory: String, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> any HostBlockDevice {
    try expose(info, in: directory, isReadOnly: isReadOnly, token: token)
  }

  /// Ends everything, the device first. What is under way ends with an error, and a device that is in
  /// use goes when it is not: `LoopDevice.flush` and `release` before it are the clean way.
  public func close() {
    // Its number may be another's by now.
    if let token { for device in LoopDevice.bound(with: token) { device.abandon() } }
    closeQueue()
    if let directory { try? FileMount.unmount(directory) }
    mount = nil
    service.result { [service, served, events] in
      guard let file = served.file else { return }
      service.remove(file as any ProgressSource)
      file.close()
      events.fileReference = nil
      served.file = nil
    }
  }

  private func closeQueue() {
    service.result { [served, events] in
      served.queue?.close()
      events.served = nil
      served.queue = nil
    }
  }

  /// Hears of the queue, for the file and for who asked.
  private final class Relay: RemoteVolumeHandler, @unchecked Sendable {
    let tell: @Sendable (Event) -> Void
    var served: Served?
    /// `served.file`, for each batch.
    var fileReference: UncountedReference<VolumeFile>?

    init(_ tell: @escaping @Sendable (Event) -> Void) { self.tell = tell }

    func remoteVolume(
      _ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>
    ) {
      fileReference?.with { $0.completed(completions) }
    }

    func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
      tell(.changed(state))
    }
  }
}
