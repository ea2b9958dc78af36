import CFabricLinux
import CFabricUBLK
import FabricHostDriver
import FabricPlatform

extension DeviceRecovery {
  fileprivate var flags: UInt64 {
    switch self {
    case .fail: 0
    case .queue: fabric_ublk_recovers
    case .reissue: fabric_ublk_recovers | fabric_ublk_reissues
    }
  }
}

/// A device of the kernel's user-space block driver.
public struct UBLKDevice: HostBlockDevice {
  public let number: UInt32
  /// By that it is told from one of the same number that others have made since: the driver keeps
  /// it.
  public let mark: UInt64
  public var path: String { "/dev/ublkb\(number)" }
  var serverPath: String { "/dev/ublkc\(number)" }

  /// The mark of a device's token: the number behind its last colon.
  static func mark(of token: String) -> UInt64 {
    token.split(separator: ":").last.flatMap { UInt64($0) } ?? 0
  }

  /// Adds a device, which nobody sees until it is started.
  static func add(
    queueCount: Int, depth: Int, recovery: DeviceRecovery, mark: UInt64, control: UBLKControl
  ) throws(HostDeviceError) -> ublksrv_ctrl_dev_info {
    var info = ublksrv_ctrl_dev_info()
    info.nr_hw_queues = UInt16(queueCount)
    info.queue_depth = UInt16(depth)
    info.max_io_buf_bytes = UInt32(UBLKQueue.transferByteCount)
    info.dev_id = .max
    info.ublksrv_pid = -1
    info.flags = recovery.flags
    info.ublksrv_flags = mark
    do throws(Errno) {
      try control.call(fabric_ublk_add_device, .max, with: &info)
    } catch {
      throw .system(error, doing: "expected to add a ublk device, as root on Linux 6.0 or later")
    }
    return info
  }

  /// Says what the device is like. (HD-61)
  func describe(
    _ info: RemoteVolumeInfo, isReadOnly: Bool, control: UBLKControl
  ) throws(HostDeviceError) {
    let block = info.blockByteCount
    guard block >= 512, block <= 4096, block.nonzeroBitCount == 1 else {
      throw .missing("expected blocks of 512 to 4096 bytes, got \(block); use --as loop")
    }
    let shift = UInt8(block.trailingZeroBitCount)
    let sectors = UInt32(UBLKQueue.transferByteCount) / 512
    var parameters = ublk_params()
    parameters.len = UInt32(MemoryLayout<ublk_params>.size)
    parameters.types = fabric_ublk_types
    parameters.basic.attrs =
      fabric_ublk_attribute_volatile_cache | fabric_ublk_attribute_fua
      | (isReadOnly ? fabric_ublk_attribute_read_only : 0)
    parameters.basic.logical_bs_shift = shift
    parameters.basic.physical_bs_shift = shift
    parameters.basic.io_opt_shift = shift
    parameters.basic.io_min_shift = shift
    parameters.basic.max_sectors = sectors
    parameters.basic.dev_sectors = info.byteCount / 512
    parameters.discard.discard_granularity = UInt32(block)
    parameters.discard.max_discard_sectors = Self.zeroingSectorCount
    parameters.discard.max_write_zeroes_sectors = Self.zeroingSectorCount
    parameters.discard.max_discard_segments = 1
    do throws(Errno) {
      try control.call(fabric_ublk_set_parameters, number, with: &parameters)
    } catch { throw .system(error, doing: "expected to describe the volume to the driver") }
  }

  /// 1 GiB in one request.
  private static let zeroingSectorCount: UInt32 = 1 << 21

  // MARK: Of a device that is started

  public var isBound: Bool {
    guard let info = UBLKControl().info(of: number) else { return false }
    return info.ublksrv_flags == mark && info.state != fabric_ublk_dead
  }

  private var isOurs: Bool { UBLKControl().info(of: number)?.ublksrv_flags == mark }

  public func release() throws(HostDeviceError) { try whileUnused { stop() } }

  /// Takes the disk away: who has it open gets errors.
  func stop() {
    guard isOurs else { return }
    try? UBLKControl().call(fabric_ublk_stop_device, number)
  }

  /// Takes the disk and the device away. The kernel forgets its number when nobody has it open.
  public func abandon() {
    guard isOurs else { return }
    let control = UBLKControl()
    try? control.call(fabric_ublk_stop_device, number)
    do throws(Errno) {
      try control.call(fabric_ublk_delete_device_later, number)
    } catch { try? control.call(fabric_ublk_delete_device, number) }
  }

  /// The devices that were made with a token.
  public static func bound(with token: String) -> [UBLKDevice] {
    let wanted = mark(of: token)
    guard wanted != 0 else { return [] }
    return KernelText.names(in: "/sys/class/ublk-char").compactMap { name in
      guard name.hasPrefix("ublkc"), let number = UInt32(name.dropFirst(5)) else { return nil }
      let device = UBLKDevice(number: number, mark: wanted)
      return device.isOurs ? device : nil
    }
  }
}
