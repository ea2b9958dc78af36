import CFabricLinux
import FabricHostDriver
import FabricNBDProtocol
import FabricPlatform

/// A device of the kernel's NBD client, commanded by generic netlink.
///
/// The kernel keeps its devices as it keeps loop devices: one that was taken away is a number for the next.
public struct NBDDevice: HostBlockDevice {
  public let number: UInt32
  /// What it was made with: by that it is told from one of the same number that others have made since.
  public let token: String
  public var path: String { "/dev/nbd\(number)" }

  /// What a new device is like.
  struct Shape {
    var byteCount: UInt64
    var blockByteCount: UInt32
    var isReadOnly: Bool
    /// The kernel waits for another socket when all are gone.
    var waitsForSockets: Bool
  }

  /// As good as for ever, in seconds: the kernel keeps the time in ticks of 32 bits.
  private static let forever: UInt64 = 1_000_000

  /// What the kernel's client is commanded by.
  static func control() throws(HostDeviceError) -> GenericNetlink {
    do throws(Errno) {
      return try GenericNetlink(NBD_GENL_FAMILY_NAME, version: NBD_GENL_VERSION)
    } catch {
      throw .missing(
        "expected the kernel's NBD client, got \"\(error)\"; as root, run: modprobe nbd")
    }
  }

  /// Makes a device, whose number the kernel chooses.
  ///
  /// - Parameters:
  ///   - sockets: the kernel's ends, which it keeps.
  ///   - token: what the device tells of itself later.
  static func connect(
    _ sockets: [StreamSocket], shape: Shape, token: String
  ) throws(HostDeviceError) -> NBDDevice {
    let block = shape.blockByteCount
    guard block >= 512, block <= 4096, block.nonzeroBitCount == 1 else {
      throw .missing("expected blocks of 512 to 4096 bytes, got \(block); use --as loop")
    }
    var flags: NBD.TransmissionFlags = [
      .hasFlags, .flush, .forceUnitAccess, .trim, .writeZeroes, .multipleConnections,
    ]
    if shape.isReadOnly { flags.insert(.readOnly) }
    var attributes = NetlinkAttributes()
    attributes.add(NBD_ATTR_SIZE_BYTES, shape.byteCount)
    attributes.add(NBD_ATTR_BLOCK_SIZE_BYTES, UInt64(block))
    attributes.add(NBD_ATTR_SERVER_FLAGS, UInt64(flags.rawValue))
    // With one socket 0 is: never. With several the kernel would take another one after 30 s.
    attributes.add(NBD_ATTR_TIMEOUT, sockets.count == 1 ? 0 : Self.forever)
    if shape.waitsForSockets { attributes.add(NBD_ATTR_DEAD_CONN_TIMEOUT, Self.forever) }
    attributes.add(NBD_ATTR_SOCKETS, list(sockets))
    attributes.add(NBD_ATTR_BACKEND_IDENTIFIER, text: token)
    let control = try control()
    let found: UInt32?
    do throws(Errno) {
      found = try control.call(NBD_CMD_CONNECT, attributes).find(NBD_ATTR_INDEX, as: UInt32.self)
    } catch { throw .system(error, doing: "expected a device of the kernel's NBD client, as root") }
    guard let found else { throw .missing("expected the number of the NBD device, got none") }
    let device = NBDDevice(number: found, token: token)
    guard device.isBound else {
      device.disconnect(control)
      throw .missing("expected an NBD client that keeps its maker's name: Linux 5.14 or later")
    }
    return device
  }

  /// Gives the device another socket in place of one that is gone. No effect when none is.
  func reconnect(_ socket: StreamSocket) throws(HostDeviceError) {
    var attributes = NetlinkAttributes()
    attributes.add(NBD_ATTR_INDEX, number)
    attributes.add(NBD_ATTR_SOCKETS, Self.list([socket]))
    attributes.add(NBD_ATTR_BACKEND_IDENTIFIER, text: token)
    let control = try Self.control()
    do throws(Errno) {
      try control.call(NBD_CMD_RECONFIGURE, attributes)
    } catch { throw .system(error, doing: "expected to give \(path) another socket") }
  }

  private static func list(_ sockets: [StreamSocket]) -> NetlinkAttributes {
    var list = NetlinkAttributes()
    for socket in sockets {
      var item = NetlinkAttributes()
      item.add(NBD_SOCK_FD, UInt32(socket.number))
      list.add(NBD_SOCK_ITEM, item)
    }
    return list
  }

  /// Has the kernel ask for as much at once as a queue takes, and look after requests that were sent by a
  /// socket that is gone each `interval`, which it does not do by itself.
  ///
  /// What is set already is not written: to write waits until no request is under way, and a process
  /// that is killed in that wait keeps the sockets that those requests wait for.
  func tune(interval: Duration?) throws(HostDeviceError) {
    let settings = "/sys/block/nbd\(number)/queue"
    func set(_ name: String, _ value: UInt64) throws(Errno) {
      let path = "\(settings)/\(name)"
      guard KernelFile.text(path)?.split(separator: "\n").first != "\(value)" else { return }
      try KernelText.put("\(value)", to: path)
    }
    try HostDeviceError.doing("expected to set up \(path)") { () throws(Errno) in
      try set("max_sectors_kb", UInt64(NBDQueue.transferByteCount >> 10))
      if let interval { try set("io_timeout", interval.nanoseconds / 1_000_000) }
    }
  }

  public var isBound: Bool {
    KernelFile.text("/sys/block/nbd\(number)/backend")?.split(separator: "\n").first
      == Substring(token)
  }

  public func release() throws(HostDeviceError) { try whileUnused { abandon() } }

  public func abandon() {
    guard isBound, let control = try? Self.control() else { return }
    disconnect(control)
  }

  /// Ends the device's requests with errors; it goes when nobody has it open any more.
  private func disconnect(_ control: borrowing GenericNetlink) {
    var attributes = NetlinkAttributes()
    attributes.add(NBD_ATTR_INDEX, number)
    _ = try? control.call(NBD_CMD_DISCONNECT, attributes)
  }

  /// The devices that were made with a token.
  public static func bound(with token: String) -> [NBDDevice] {
    KernelText.names(in: "/sys/block").compactMap { name in
      guard name.hasPrefix("nbd"), let number = UInt32(name.dropFirst(3)) else { return nil }
      let device = NBDDevice(number: number, token: token)
      return device.isBound ? device : nil
    }
  }
}
