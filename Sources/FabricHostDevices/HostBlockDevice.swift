import CFabricLinux
import FabricPlatform

/// A block device of this machine that a process of ours serves.
public protocol HostBlockDevice: Sendable {
  /// Such as `/dev/loop3`.
  var path: String { get }
  /// Whether it is the one that was made, still.
  var isBound: Bool { get }
  /// Writes back what is cached of the device, and has the volume flush it.
  func flush() throws(HostDeviceError)
  /// Takes it away, unless somebody uses it.
  ///
  /// - Throws: `.inUse`; the device is then as it was.
  func release() throws(HostDeviceError)
  /// Takes it away now, or, where it is in use, once it is not.
  func abandon()
}

// Of devices that may be open while they are taken away.
extension HostBlockDevice {
  public func flush() throws(HostDeviceError) {
    guard isBound else { return }
    try HostDeviceError.doing("expected to flush \(path)") { () throws(Errno) in
      let device = try Descriptor(result: unsafe fabric_open_existing(path, O_RDONLY))
      _ = try Errno.check { fsync(device.rawValue) }
    }
  }

  /// Runs `body`, which takes the device away, while nobody else uses it or begins to.
  ///
  /// - Throws: `.inUse`; `body` has not run then.
  func whileUnused(_ body: () -> Void) throws(HostDeviceError) {
    let users = DeviceUsers.find(path)
    guard users.isEmpty else { throw .inUse(device: path, by: users) }
    guard isBound else { return }
    // Whoever mounts it from now on is refused.
    let held: Descriptor
    do throws(Errno) {
      held = try Descriptor(
        result: unsafe fabric_open_existing(path, O_RDONLY | O_EXCL))
    } catch {
      guard error.rawValue == EBUSY else {
        throw .system(error, doing: "expected to open \(path)")
      }
      throw .inUse(device: path, by: DeviceUsers.find(path))
    }
    let late = DeviceUsers.find(path)
    guard late.isEmpty else { throw .inUse(device: path, by: late) }
    body()
    _ = held.rawValue
  }
}
