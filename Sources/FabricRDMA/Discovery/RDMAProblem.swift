public import FabricPlatform

/// Why RDMA, a device or a port cannot be used, and what to do.
public enum RDMAProblem: Equatable, Sendable, CustomStringConvertible {
  /// Neither the kernel nor the library knows a device.
  case noDevice
  /// The library cannot list devices.
  case library(Errno)
  /// The kernel has the device, but not the module by which programs reach it.
  case noVerbsModule(device: String)
  /// The kernel shows the device to programs, and the library knows no driver for it.
  case noDriver(device: String)
  /// Addresses resolve through the kernel's connection manager.
  case noConnectionManager
  /// A file under `/dev/infiniband` is not for this user.
  case notPermitted(path: String)
  /// The kernel has the device, and its file under `/dev/infiniband` is not there.
  case noDeviceFile(path: String)
  /// The device could not be opened or asked, for another reason.
  case cannotOpen(device: String, Errno)
  /// Bytes that this process may lock; all memory that a device reaches is locked.
  case lockLimit(byteCount: UInt64)
  /// A call locks memory, and failed: bytes that this process may lock, and that devices hold of it.
  case lockLimitReached(doing: String, limit: UInt64, locked: UInt64)
  case portDown(interface: String?, RDMAPort.LinkLayer)
  /// InfiniBand: the port waits for a subnet manager.
  case portNotSetUp
  /// InfiniBand and RoCE: the port has no name.
  case noGID
  /// Addresses are those of IP, and the port has none that reaches further than its link.
  case noAddress(interface: String?)

  /// What to do about a limit on locked memory.
  public static let lockRemedy =
    "ulimit -l unlimited (of a service: LimitMEMLOCK=infinity; of a container: --ulimit memlock=-1), "
    + "or as root add \"* - memlock unlimited\" to /etc/security/limits.conf and log in again"

  /// What is expected, what is there, what to do: a line without its end.
  public var description: String {
    switch self {
    case .noDevice:
      "no RDMA device; a card needs its driver, and without a card a network interface will do, as "
        + "root: modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0"
    case .library(let error):
      "libibverbs cannot list devices: \(error)"
    case .noVerbsModule(let device):
      "the kernel has \(device) but does not show it to programs; as root: modprobe ib_uverbs"
    case .noDriver(let device):
      "libibverbs has no driver for \(device); install it: apt-get install ibverbs-providers"
    case .noConnectionManager:
      "expected /dev/infiniband/rdma_cm, by which addresses are found, and it is not there; "
        + "as root: modprobe rdma_ucm"
    case .notPermitted(let path):
      "\(path) is not for this user; as root: chmod a+rw \(path), or give a container "
        + "--device \(path)"
    case .noDeviceFile(let path):
      "expected \(path), and it is not there; give a container --device \(path), else look at udev"
    case .cannotOpen(let device, let error):
      "\(device) cannot be opened: \(error); dmesg may say more"
    case .lockLimit(let byteCount):
      "this process may lock \(byteCount >> 10)KiB of memory, and RDMA wants "
        + "\(RDMASurvey.neededLockByteCount >> 20)MiB or more: \(Self.lockRemedy)"
    case .lockLimitReached(let doing, let limit, let locked):
      "\(doing) locks memory, and this process may lock \(limit >> 10)KiB, of which devices hold "
        + "\(locked >> 10)KiB: \(Self.lockRemedy)"
    case .portDown(let interface, .ethernet):
      "the link is down; as root: ip link set \(interface ?? "its interface") up, and look at the cable"
    case .portDown:
      "the link is down; look at the cable and at the switch"
    case .portNotSetUp:
      "the link is there, and no subnet manager has set the port up; start one: apt-get install opensm"
    case .noGID:
      "the port has no GID; as root give its interface an address: ip address add"
    case .noAddress(let interface):
      "no IP address reaches it; as root: ip address add ADDRESS/LENGTH dev "
        + (interface ?? "its interface")
    }
  }
}
