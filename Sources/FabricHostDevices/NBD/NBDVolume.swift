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

  /// So often the kernel looks whether what was sent by a socket that is gone is to be sent by another one.
  private static let lookInterval: Duration = .seconds(5)
  /// Room that the kernel is asked for, for what was sent and not taken.
  private static let sendRoomByteCount = 2 << 20

  private let connection: DeviceConnection
  private let settings: Settings
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
    try connection.serve { (volume, tell) throws(HostDeviceError) in
      var queues: [NBDQueue] = []
      for (index, socket) in sockets.enumerated() {
        queues.append(
          try NBDQueue(
            volume, info: info, socket: socket, number: index, depth: depth,
            isReadOnly: isReadOnly, tell: tell))
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

  /// Ends everything: what is under way ends with an error, then the device goes, or, where it is in use,
  /// once it is not. `flush` and `release` before it are the clean way.
  public func close() {
    connection.closeVolume()
    // What the kernel is just sending it gives up.
    connection.closeQueues()
    device?.abandon()
  }
}
