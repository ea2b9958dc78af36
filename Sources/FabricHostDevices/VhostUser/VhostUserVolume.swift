import CFabricLinux
public import FabricCompletion
public import FabricHostDriver
import FabricPlatform
public import FabricVerbs

/// A remote volume as the disk of a virtual machine, whose device is the socket that the machine's emulator
/// connects to.
///
/// Threads: all calls come from one thread, which is not one of the service's; events come on the
/// service's thread. `service` has a thread of its own.
public final class VhostUserVolume: HostVolume, @unchecked Sendable {
  private let service: CompletionService
  private let options: VhostUserBlock.Options
  private let path: String
  private let tell: @Sendable (HostVolumeEvent) -> Void
  /// The service's thread's.
  private let served = Served()
  private var socket: VhostUserSocket?

  final class Served: @unchecked Sendable {
    var block: VhostUserBlock?
  }

  /// - Parameters:
  ///   - path: of the socket to listen at.
  ///   - tell: called on the service's thread.
  public init(
    service: CompletionService, path: String, options: VhostUserBlock.Options,
    tell: @escaping @Sendable (HostVolumeEvent) -> Void
  ) {
    self.service = service
    self.path = path
    self.options = options
    self.tell = tell
  }

  public func connect(
    _ addresses: [VolumeAddress], adapters: [any Adapter]
  ) throws(VhostUserError) {
    let result = service.result { [self] () -> Result<Void, VhostUserError> in
      do throws(VhostUserError) {
        let block = try VhostUserBlock(
          addresses, path: path, adapters: adapters, service: service, options: options)
        block.changed = { [tell] in tell(.changed($0)) }
        served.block = block
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// The socket is there already: machines that have come wait for the volume.
  public func makeDevice(
    _ info: RemoteVolumeInfo, in directory: String, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> any HostBlockDevice {
    let socket = VhostUserSocket(path: path, service: service, served: served)
    self.socket = socket
    return socket
  }

  public var blockDevice: (any HostBlockDevice)? { socket }
  public var fileName: String? { nil }

  public var figures: DeviceFigures {
    service.result { [served] in
      guard let block = served.block else { return DeviceFigures() }
      var figures = block.figures
      figures.inFlightCount = block.underWayCount
      return figures
    }
  }

  public func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    service.result { [served] in body(served.block?.volume) }
  }

  /// The machine is told by the one that serves it.
  public func grow(to info: RemoteVolumeInfo) -> Bool { true }

  /// Nothing waits for requests here.
  public func giveUp() {}

  public func close() {
    service.result { [served] in
      served.block?.close()
      served.block = nil
    }
  }
}

extension VhostUserVolume {
  /// Removes a socket that a dead process has left; no effect where somebody listens, or something else is
  /// there. (VU-64)
  public static func removeLeftSocket(at path: String) {
    guard FileKind.isSocket(path) else { return }
    let claimed = try? SocketPath.claim(path) { path throws(Errno) in
      try StreamSocket.listen(atPath: path, isPrivate: true)
    } connect: { path throws(Errno) in
      _ = try StreamSocket.connect(toPath: path)
    }
    claimed?.name.remove()
  }
}

/// The socket as a device.
private struct VhostUserSocket: HostBlockDevice {
  let path: String
  let service: CompletionService
  let served: VhostUserVolume.Served

  var isBound: Bool { FileKind.isSocket(path) }

  /// What a machine has flushed has been flushed; of the rest nothing is kept here.
  func flush() throws(HostDeviceError) {}

  /// - Throws: `.inUse` while a machine is connected.
  func release() throws(HostDeviceError) {
    let user = service.result { [served] () -> Int32? in
      guard let block = served.block else { return nil }
      if let process = block.frontEndProcess { return process }
      block.close()
      return nil
    }
    if let user {
      throw .inUse(device: path, by: ["used by \(DeviceUsers.words(for: user))"])
    }
  }

  func abandon() {
    service.result { [served] in served.block?.close() }
  }
}
