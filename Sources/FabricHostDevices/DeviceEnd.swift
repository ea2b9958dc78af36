import CFabricLinux
import FabricPlatform

/// A way in which a remote volume becomes a block device of this machine.
public struct DeviceEnd: Sendable {
  /// What `iohost attach --as` calls it.
  public let name: String
  /// What it makes, for people.
  public let words: String
  /// Whether this machine has what it needs.
  public let look: @Sendable () -> Availability

  /// What an end found on this machine, in words.
  public enum Availability: Equatable, Sendable {
    case present(String)
    /// What was expected, what came, what to do.
    case missing(String)
  }

  /// All there are, the best first: the first that the machine has is that of `--as auto`.
  public static let all = [ublk, loop, nbd]

  /// A socket for a virtual machine's emulator; never that of `--as auto`.
  public static let vhostUser = DeviceEnd(
    name: "vhost-user", words: "a disk for a virtual machine, at a socket"
  ) { .present("a Unix socket is all that it takes") }

  /// A device of the kernel's user-space block driver: Linux 6.0 or later. (HD-60)
  public static let ublk = DeviceEnd(
    name: "ublk", words: "a device of the kernel's user-space block driver"
  ) {
    let number = unsafe fabric_open_existing("/dev/ublk-control", O_RDWR)
    guard number >= 0 else {
      let error = Errno.current
      return .missing(
        "expected to open /dev/ublk-control, got \"\(error)\"; as root on Linux 6.0 or later, run: "
          + "modprobe ublk_drv")
    }
    close(number)
    return ofRoot("/dev/ublk-control can be opened")
  }

  /// A device of the kernel's NBD client: Linux 5.14 or later. (HD-70)
  public static let nbd = DeviceEnd(name: "nbd", words: "a device of the kernel's NBD client") {
    do throws(HostDeviceError) {
      _ = try NBDDevice.control()
    } catch { return .missing(error.description) }
    return ofRoot("the kernel has its NBD client")
  }

  /// A file of FUSE under a loop device: every Linux kernel has both.
  public static let loop = DeviceEnd(name: "loop", words: "a loop device on a file of FUSE") {
    for (path, module) in [("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")] {
      let number = unsafe fabric_open_existing(path, O_RDWR)
      guard number < 0 else {
        close(number)
        continue
      }
      let error = Errno.current
      if error == .permissionDenied {
        return .missing("expected to open \(path), got \"\(error)\": block devices want root")
      }
      return .missing(
        "expected to open \(path), got \"\(error)\"; as root, run: modprobe \(module)")
    }
    return ofRoot("/dev/fuse and /dev/loop-control can be opened")
  }

  /// For an end that has all that it needs but, perhaps, the rights.
  private static func ofRoot(_ words: String) -> Availability {
    guard geteuid() == 0 else {
      return .missing("expected to be root, got user \(geteuid()); run it as root")
    }
    return .present(words)
  }
}
