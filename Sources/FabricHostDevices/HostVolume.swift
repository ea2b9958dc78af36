public import FabricHostDriver
public import FabricIOProtocol
public import FabricVerbs
import Glibc

/// A remote volume that becomes a device of this machine, by one of the ends.
///
/// Threads: all calls but `giveUp` come one after the other, from threads that are not the one that carries the
/// requests on.
public protocol HostVolume: AnyObject, Sendable {
  /// Starts to connect; `HostVolumeEvent.changed` tells how it goes.
  ///
  /// - Parameters: as of `RemoteVolumeQueue`.
  /// - Throws: its errors, and those of the end.
  func connect(_ addresses: [VolumeAddress], adapters: [any Adapter]) throws

  /// Makes the device, once the volume is attached. May take as long as the unit does: the kernel asks of some
  /// devices while it makes them.
  ///
  /// - Parameters:
  ///   - directory: an empty one, for an end that has a file.
  ///   - token: what the device is told from others by, at most 63 bytes, with a number behind
  ///     its last colon.
  func makeDevice(
    _ info: RemoteVolumeInfo, in directory: String, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> any HostBlockDevice

  /// The device, once it is made.
  var blockDevice: (any HostBlockDevice)? { get }

  /// Of the file in the directory by which the volume is to be reached, too; nil: there is none.
  var fileName: String? { get }

  /// What the device was asked for.
  var figures: DeviceFigures { get }

  /// Runs `body` on the thread that carries the requests on, and waits for it.
  func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result

  /// Has the device another size, where its kind can: the volume has grown.
  ///
  /// - Returns: whether it has.
  func grow(to info: RemoteVolumeInfo) throws(HostDeviceError) -> Bool

  /// What is under way ends with an error, and what comes, so that no other call waits; `close` follows. From any
  /// thread.
  func giveUp()

  /// Ends everything. What is under way ends with an error.
  func close()
}

/// What happens meanwhile.
public enum HostVolumeEvent: Sendable {
  /// The connection to the unit came, went or is given up.
  case changed(RemoteVolumeQueue.State)
  /// The kernel has ended the device without being asked to; why, in words.
  case ended(String)
  /// A request has failed, so that `count` have; of many only some are told.
  case failed(RemoteVolumeError, count: UInt64)
}

extension HostVolume {
  public func grow(to info: RemoteVolumeInfo) throws(HostDeviceError) -> Bool { false }

  /// How each path is doing.
  public var paths: [PathReport] { withQueue { $0?.pathReports ?? [] } }

  /// Whether requests end with errors because there was no path for too long.
  public var isRefusing: Bool { withQueue { $0?.isRefusing ?? false } }

  /// Which path a request takes.
  public var policy: PathPolicy? { withQueue { $0?.policy } }

  /// Has requests take another path from the next one on.
  public func choose(_ policy: PathPolicy) { withQueue { $0?.policy = policy } }

  /// Sends a control call to the unit; `completed` is called once, on the thread that carries the
  /// requests on.
  public func control(
    _ call: ControlCall, by path: Int?, completed: @escaping @Sendable (ControlAnswer) -> Void
  ) {
    withQueue { queue in
      guard let queue else { return completed(ControlAnswer(errno: ESHUTDOWN)) }
      queue.control(call, by: path, completed: completed)
    }
  }
}
