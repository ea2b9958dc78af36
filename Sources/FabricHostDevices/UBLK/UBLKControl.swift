import CFabricUBLK
import FabricPlatform

/// Commands to the driver, by `/dev/ublk-control`. Each is a system call that waits for its answer.
struct UBLKControl: Sendable {
  /// Commands are numbers of ioctl's: Linux 6.4 or later.
  let isEncoded: Bool

  /// Asks the driver what it can; before Linux 6.5 it does not tell, and takes the older numbers.
  init() {
    var features: UInt64 = 0
    let command = fabric_ublk_command(fabric_ublk_get_features, true)
    let result = unsafe withUnsafeMutableBytes(of: &features) {
      unsafe fabric_ublk_control(command, UInt32.max, Self.address(of: $0), 8, 0)
    }
    isEncoded = result == 0
  }

  /// The same for a command with no bytes.
  func call(_ number: UInt32, _ device: UInt32, data: UInt64 = 0) throws(Errno) {
    try check(
      fabric_ublk_control(fabric_ublk_command(number, isEncoded), device, 0, 0, data))
  }

  /// A command with a value that the driver reads, and writes where it has something to tell.
  func call<Value: BitwiseCopyable>(
    _ number: UInt32, _ device: UInt32, with value: inout Value
  ) throws(Errno) {
    let command = fabric_ublk_command(number, isEncoded)
    try check(
      unsafe withUnsafeMutableBytes(of: &value) {
        unsafe fabric_ublk_control(command, device, Self.address(of: $0), UInt16($0.count), 0)
      })
  }

  /// What the driver knows of a device; nil when there is none.
  func info(of device: UInt32) -> ublksrv_ctrl_dev_info? {
    var info = ublksrv_ctrl_dev_info()
    info.dev_id = device
    do throws(Errno) {
      try call(fabric_ublk_get_device_info, device, with: &info)
    } catch { return nil }
    return info
  }

  private func check(_ result: CInt) throws(Errno) {
    if result < 0 { throw Errno(rawValue: -result) }
  }

  @unsafe
  private static func address(of bytes: UnsafeMutableRawBufferPointer) -> UInt64 {
    UInt64(UInt(bitPattern: bytes.baseAddress))
  }
}
