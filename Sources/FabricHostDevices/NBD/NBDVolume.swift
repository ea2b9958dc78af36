import CFabricLinux
public import FabricCompletion
public import FabricHostDriver
public import FabricMessaging
import FabricPlatform
import FabricStorage
public import FabricVerbs

/// A remote volume as a device of the kernel's NBD client, which speaks with this process over pairs of local
/// sockets.
///
/// Threads: all calls come from one thread, which is not one of the service's; events come on the
/// service's thread. `service` has a thread of its own.
public final class NBDVolume: HostVolume, @unchecked Sendable {
  public struct Settings: Sendable {
    /// How many sockets, and queues of the kernel's, there are.
    public var socketCount = 1
    /// How many requests of the kernel's are under way at most, by all sockets; each has 1 MiB of
    /// memory.
    public var depth = 128
    /// `fail`, or, with one socket, `reissue`.
    public var recovery = DeviceRecovery.fail
    /// A device was left by a process that died, and is served on.
    public var recovers = false

    public init() {}
  }

  /// The service's thread's.
  private final class Served: @unchecked Sendable {
    var queue: RemoteVolumeQueue?
    var queues: [NBDQueue] = []
  }

  /// So often the kernel looks whether what was sent by a socket that is gone is to be sent by another one.
  private static let lookInterval: Duration = .seconds(5)
  /// Room that the kernel is asked for, for what was sent and not taken.
  private static let sendRoomByteCount = 2 << 20

  private let service: CompletionService
  private let options: RemoteVolumeQueue.Options
  private let settings: Settings
  private let served = Served()
  private let events: Relay
  private var device: NBDDevice?
  private var isStarted = false

  /// - Parameters:
  ///   - service: with one thread of its own.
  ///   - tell: called on the service's thread.
  public init(
    service: CompletionService, options: RemoteVolumeQueue.Options, settings: Settings,
    tell: @escaping @Sendable (HostVolumeEvent) -> Void
  ) {
    precondition(
      settings.recovery == .fail || settings.recovery == .reissue && settings.socketCount == 1,
      "nothing else can the kernel's client do")
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
    let (device, sockets) =
      settings.recovers
      ? try recover(token)
      : try connect(info, isReadOnly: isReadOnly, token: token)
    self.device = device
    try serve(sockets, info, isReadOnly: isReadOnly)
    try device.tune(interval: settings.recovery == .reissue ? Self.lookInterval : nil)
    isStarted = true
    return device
  }

  /// Makes a device. What the kernel asks waits in the sockets until it is served.
  private func connect(
    _ info: RemoteVolumeInfo, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> (NBDDevice, [StreamSocket]) {
    var ours: [StreamSocket] = []
    var theirs: [StreamSocket] = []
    for _ in 0..<max(1, min(settings.socketCount, settings.depth)) {
      let pair = try Self.makePair()
      ours.append(pair.ours)
      theirs.append(pair.theirs)
    }
    let shape = NBDDevice.Shape(
      byteCount: info.byteCount, blockByteCount: info.blockByteCount, isReadOnly: isReadOnly,
      waitsForSockets: settings.recovery == .reissue)
    return (try NBDDevice.connect(theirs, shape: shape, token: token), ours)
  }

  /// Finds the device that another process has served, and gives it a socket in place of that one's. The
  /// kernel notices that process's end by and by, and takes no other socket before. (HD-75)
  private func recover(
    _ token: String
  ) throws(HostDeviceError) -> (NBDDevice, [StreamSocket]) {
    guard let device = NBDDevice.bound(with: token).first else {
      throw .missing("expected the device of \(token), found none; attach the volume again")
    }
    let deadline = MonotonicTime.now + .seconds(60)
    while MonotonicTime.now < deadline {
      let ours = try offer(to: device)
      if !ours.peerHasEnded { return (device, [ours]) }
      // The client tells of its state in no other way.
      _ = fabric_poll(nil, 0, 20)
    }
    throw .missing("expected \(device.path) to take another socket, but it has one still")
  }

  /// Nobody but the kernel, if it has taken it, has the other end any more.
  private func offer(to device: NBDDevice) throws(HostDeviceError) -> StreamSocket {
    let pair = try Self.makePair()
    try device.reconnect(pair.theirs)
    return pair.ours
  }

  private static func makePair() throws(HostDeviceError) -> (
    ours: StreamSocket, theirs: StreamSocket
  ) {
    let (ours, theirs) = try HostDeviceError.doing("expected a pair of sockets") {
      () throws(Errno) in
      try StreamSocket.localPair()
    }
    ours.setSendRoom(byteCount: sendRoomByteCount)
    theirs.setSendRoom(byteCount: sendRoomByteCount)
    return (ours, theirs)
  }

  private func serve(
    _ sockets: [StreamSocket], _ info: RemoteVolumeInfo, isReadOnly: Bool
  ) throws(HostDeviceError) {
    let depth = max(1, settings.depth / sockets.count)
    let result = service.result { [self] () -> Result<Void, HostDeviceError> in
      guard let queue = served.queue else { return .success(()) }
      do throws(HostDeviceError) {
        for (index, socket) in sockets.enumerated() {
          served.queues.append(
            try NBDQueue(
              queue, info: info, socket: socket, number: index, depth: depth,
              isReadOnly: isReadOnly
            ) { [events] in events.tell($0) })
        }
      } catch { return .failure(error) }
      events.queues = served.queues.map { UncountedReference($0) }
      for queue in served.queues { service.add(queue as any ProgressSource) }
      return .success(())
    }
    try result.get()
  }

  public var blockDevice: (any HostBlockDevice)? { isStarted ? device : nil }
  public var hasFile: Bool { false }

  public var figures: DeviceFigures {
    service.result { [served] in
      served.queues.reduce(into: DeviceFigures()) { $0.add($1.requests.figures) }
    }
  }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    service.result { [served] in body(served.queue) }
  }

  /// Ends everything: what is under way ends with an error, then the device goes, or, where it is in use,
  /// once it is not. `flush` and `release` before it are the clean way.
  public func close() {
    service.result { [service, served, events] in
      served.queue?.close()
      served.queue = nil
      for queue in served.queues {
        queue.finishBatch()
        // What the kernel is just sending it gives up.
        queue.close()
        service.remove(queue as any ProgressSource)
      }
      events.queues = []
      served.queues = []
    }
    device?.abandon()
  }

  /// Hears of the volume's queue, for the device's and for who asked.
  private final class Relay: RemoteVolumeHandler, @unchecked Sendable {
    let tell: @Sendable (HostVolumeEvent) -> Void
    var queues: [UncountedReference<NBDQueue>] = []

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
