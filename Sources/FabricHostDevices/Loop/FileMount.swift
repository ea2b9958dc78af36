import CFabricLinux
import FabricPlatform

/// A FUSE file system that is mounted, at first at no place. It goes when nobody holds it any more:
/// a process that dies before the mount has a place leaves nothing.
///
/// The corresponding C calls are `fsopen`, `fsconfig`, `fsmount` and `move_mount`.
public struct FileMount: ~Copyable, Sendable {
  private let mount: Descriptor

  /// Opens `/dev/fuse`, never blocking.
  static func openDevice() throws(HostDeviceError) -> Descriptor {
    try HostDeviceError.doing("expected to open /dev/fuse; as root, run modprobe fuse") {
      () throws(Errno) in
      try Descriptor(result: unsafe fabric_open_existing("/dev/fuse", O_RDWR | CInt(O_NONBLOCK)))
    }
  }

  /// Mounts the file system that `device` serves. Asks nothing of who serves it.
  ///
  /// - Parameter source: what the table of mounts shows as its source.
  init(device: CInt, source: String) throws(HostDeviceError) {
    mount = try HostDeviceError.doing(
      "expected to mount a FUSE file system, as root on Linux 5.2 or later"
    ) { () throws(Errno) in
      let context = try Descriptor(result: unsafe fabric_fsopen("fuse"))
      let number = context.rawValue
      let settings = [
        ("source", source), ("subtype", "channelfabric"), ("fd", "\(device)"),
        ("rootmode", "40000"), ("user_id", "0"), ("group_id", "0"),
      ]
      for (key, value) in settings {
        try Errno.check {
          unsafe fabric_fsconfig(number, UInt32(fabric_fsconfig_set_string), key, value)
        }
      }
      try Errno.check {
        unsafe fabric_fsconfig(
          number, UInt32(fabric_fsconfig_set_flag), "default_permissions", nil)
      }
      try Errno.check {
        fabric_fsconfig(number, UInt32(fabric_fsconfig_create), nil, nil)
      }
      let attributes = fabric_mount_nosuid | fabric_mount_nodev | fabric_mount_noexec
      return try Descriptor(result: fabric_fsmount(number, UInt32(attributes)))
    }
  }

  /// Opens the file for direct I/O. Not on the thread that serves it.
  func openFile(isReadOnly: Bool) throws(HostDeviceError) -> Descriptor {
    let number = mount.rawValue
    return try HostDeviceError.doing("expected to open the volume's file") { () throws(Errno) in
      let flags = (isReadOnly ? O_RDONLY : O_RDWR) | fabric_open_direct
      return try Descriptor(result: unsafe fabric_open_at(number, VolumeFile.name, flags))
    }
  }

  /// Gives the file system a place, from which `unmount` takes it.
  func move(to directory: String) throws(HostDeviceError) {
    let number = mount.rawValue
    try HostDeviceError.doing("expected to mount at \(directory)") { () throws(Errno) in
      _ = try Errno.check { unsafe fabric_move_mount(number, directory) }
    }
  }

  /// What the file system that is mounted at a directory was said to be mounted from; nil: none is.
  public static func source(at directory: String) -> String? {
    let lines = KernelText.lines("/proc/self/mountinfo")
    for fields in lines.map({ $0.split(separator: " ") })
    where fields.count > 9 && KernelText.unescaped(fields[4]) == directory {
      // Behind the optional fields, which a hyphen ends: the kind, and the source.
      guard let end = fields.firstIndex(of: "-"), end + 2 < fields.count else { continue }
      return KernelText.unescaped(fields[end + 2])
    }
    return nil
  }

  /// Ends all requests to a file system of FUSE that is mounted at a directory, now and from now on, with errors:
  /// also those of a process that was to serve them itself. No effect where none is mounted.
  public static func abort(_ directory: String) {
    // In use it stays mounted.
    _ = unsafe fabric_umount(directory, CInt(fabric_umount_force | fabric_umount_nofollow))
  }

  /// Takes what is mounted at a directory away; who has a file of it open keeps that. No effect where
  /// nothing is mounted.
  public static func unmount(_ directory: String) throws(HostDeviceError) {
    let flags = CInt(fabric_umount_detach | fabric_umount_nofollow)
    try HostDeviceError.doing("expected to unmount \(directory)") { () throws(Errno) in
      do throws(Errno) {
        try Errno.check { unsafe fabric_umount(directory, flags) }
      } catch {
        // Not mounted, or not there.
        guard error == .invalidArgument || error == .noSuchFileOrDirectory else { throw error }
      }
    }
  }
}
