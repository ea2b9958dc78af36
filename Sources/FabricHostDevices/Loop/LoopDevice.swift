import CFabricLinux
import FabricPlatform

/// A loop device of the kernel's, bound to a volume's file. Nobody holds it open: a process that dies
/// with its last descriptor would have to write back what is cached, to a file that only it serves.
public struct LoopDevice: HostBlockDevice {
  public let number: Int32
  /// What it was bound with: by that it is told from one of the same number that others have bound since.
  public let token: String
  public var path: String { "/dev/loop\(number)" }

  /// How often another process may take the number that the kernel named as free.
  private static let attemptCount = 64

  /// Binds a free loop device to a file, for direct I/O.
  ///
  /// - Parameter token: what the device tells of itself later, at most 63 bytes.
  static func bind(
    _ file: borrowing Descriptor, blockByteCount: UInt32, isReadOnly: Bool, token: String
  ) throws(HostDeviceError) -> LoopDevice {
    let control = try open("/dev/loop-control")
    for _ in 0..<attemptCount {
      let number = fabric_loop_free_number(control.rawValue)
      guard number >= 0 else {
        throw .system(.current, doing: "expected a free loop device")
      }
      let device = LoopDevice(number: number, token: token)
      let loop = try open(device.path)
      guard
        unsafe fabric_loop_configure(
          loop.rawValue, file.rawValue, blockByteCount, isReadOnly, token) != 0
      else { return device }
      let error = Errno.current
      guard error.rawValue == EBUSY else {
        throw .system(
          error,
          doing: "expected to bind \(device.path) to the volume's file, on Linux 5.8 or later")
      }
    }
    throw .missing(
      "expected a free loop device, but others took each that was free; try again")
  }

  /// Whether requests to the device go past the page cache of the file.
  var isDirect: Bool {
    guard let loop = try? Self.open(path), let found = Self.status(of: loop) else { return false }
    return found.flags & fabric_loop_flag_direct != 0
  }

  /// Has as many blocks as its file has now.
  func takeSize(of file: String) throws(HostDeviceError) {
    // What the kernel knows of the file's size it learns where somebody asks.
    let asked = try Self.open(file, flags: O_RDONLY)
    var attributes = stat()
    let number = asked.rawValue
    try HostDeviceError.doing("expected to learn the size of \(file)") { () throws(Errno) in
      _ = try Errno.check { unsafe fstat(number, &attributes) }
    }
    let loop = try Self.open(path)
    guard isOurs(loop) else { return }
    guard fabric_loop_take_size(loop.rawValue) == 0 else {
      throw .system(.current, doing: "expected \(path) to take the size of its file")
    }
  }

  /// Writes back what is cached of the device, and has the volume flush it.
  public func flush() throws(HostDeviceError) {
    let loop = try Self.open(path, flags: O_RDONLY)
    guard isOurs(loop) else { return }
    let number = loop.rawValue
    try HostDeviceError.doing("expected to flush \(path)") { () throws(Errno) in
      _ = try Errno.check { fsync(number) }
    }
  }

  /// Lets go of the file, unless somebody uses the device.
  ///
  /// - Throws: `.inUse`; the device is then as it was.
  public func release() throws(HostDeviceError) {
    let users = DeviceUsers.find(path)
    guard users.isEmpty else { throw .inUse(device: path, by: users) }
    // Whoever mounts it from now on is refused.
    let loop: Descriptor
    do throws(HostDeviceError) {
      loop = try Self.open(path, flags: O_RDONLY | O_EXCL)
    } catch {
      guard case .system(let reason, _) = error, reason.rawValue == EBUSY else { throw error }
      throw .inUse(device: path, by: DeviceUsers.find(path))
    }
    guard isOurs(loop) else { return }
    guard fabric_loop_clear(loop.rawValue) == 0 else {
      throw .system(.current, doing: "expected to release \(path)")
    }
    guard isOurs(loop) else { return }
    // Somebody has it open, and the kernel has noted to let go when they close it: that is undone.
    _ = fabric_loop_keep(loop.rawValue)
    throw .inUse(device: path, by: DeviceUsers.find(path))
  }

  /// Lets go of the file now, or, where the device is in use, once it is not.
  public func abandon() {
    guard let loop = try? Self.open(path, flags: O_RDONLY), isOurs(loop) else { return }
    _ = fabric_loop_clear(loop.rawValue)
  }

  /// Whether it is bound to the file still.
  public var isBound: Bool {
    guard let loop = try? Self.open(path, flags: O_RDONLY) else { return false }
    return isOurs(loop)
  }

  /// The loop devices that were bound with a token.
  public static func bound(with token: String) -> [LoopDevice] {
    KernelText.names(in: "/sys/block").compactMap { name in
      guard name.hasPrefix("loop"), let number = Int32(name.dropFirst(4)),
        unsafe access("/sys/block/\(name)/loop", F_OK) == 0
      else { return nil }
      let device = LoopDevice(number: number, token: token)
      return device.isBound ? device : nil
    }
  }

  // MARK: Calls

  private static func open(
    _ path: String, flags: CInt = O_RDWR
  ) throws(HostDeviceError) -> Descriptor {
    try HostDeviceError.doing("expected to open \(path); as root, run modprobe loop") {
      () throws(Errno) in
      try Descriptor(result: unsafe fabric_open_existing(path, flags))
    }
  }

  private func isOurs(_ loop: borrowing Descriptor) -> Bool {
    Self.status(of: loop)?.token == token
  }

  /// nil when nothing is bound.
  private static func status(
    of loop: borrowing Descriptor
  ) -> (flags: CInt, token: String)? {
    let number = loop.rawValue
    return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { name in
      let flags = unsafe fabric_loop_status(number, name.baseAddress)
      guard flags >= 0 else { return nil }
      return (flags, unsafe String(cString: name.baseAddress!))
    }
  }
}
