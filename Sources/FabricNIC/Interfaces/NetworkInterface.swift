import CFabricLinux
import FabricPlatform

/// An interface of this network namespace, by its name: what netdevice(7) reads and sets.
public struct NetworkInterface: Sendable, Hashable, CustomStringConvertible {
  public let name: String

  public init(_ name: String) throws(InterfaceError) {
    let bytes = name.utf8
    guard (1...Int(fabric_interface_name_max)).contains(bytes.count), name != ".", name != "..",
      bytes.allSatisfy({ $0 > 0x20 && $0 != 0x2F && $0 != 0x3A && $0 != 0x7F && $0 != 0x25 })
    else { throw .invalidName(name) }
    self.name = name
  }

  public var description: String { name }

  /// The interface of a number; nil: there is none.
  public init?(index: CInt) {
    guard let name = unsafe InterfaceName.read({ unsafe fabric_interface_name(index, $0) }) else {
      return nil
    }
    self.name = name
  }

  public var exists: Bool { index > 0 }

  /// Its number, which another interface of the same name does not have; 0: there is none.
  public var index: CInt { CInt(unsafe fabric_interface_index(name)) }

  public func address() throws(InterfaceError) -> MACAddress {
    var bytes: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8) = (0, 0, 0, 0, 0, 0)
    let result = unsafe withUnsafeMutableBytes(of: &bytes) { raw in
      unsafe fabric_interface_address(name, raw.baseAddress!.assumingMemoryBound(to: UInt8.self))
    }
    guard result == 0 else {
      if Errno.current == .addressFamilyNotSupported { throw .foreign(name) }
      throw .system("read the address of \(name)", .current)
    }
    return MACAddress([bytes.0, bytes.1, bytes.2, bytes.3, bytes.4, bytes.5])
  }

  public func setAddress(_ address: MACAddress) throws(InterfaceError) {
    try check(
      unsafe fabric_interface_set_address(name, address.bytes),
      "give \(name) the address \(address)")
  }

  public func mtu() throws(InterfaceError) -> Int {
    Int(try check(unsafe fabric_interface_mtu(name), "read the MTU of \(name)"))
  }

  public func setMTU(_ mtu: Int) throws(InterfaceError) {
    try check(
      unsafe fabric_interface_set_mtu(name, CInt(mtu)), "set the MTU of \(name) to \(mtu)")
  }

  /// Whether frames can pass: it is up and has a carrier.
  public func isRunning() throws(InterfaceError) -> Bool {
    let flags = try check(unsafe fabric_interface_flags(name), "read the state of \(name)")
    let wanted = CInt(IFF_UP | IFF_RUNNING)
    return flags & wanted == wanted
  }

  public func setUp() throws(InterfaceError) {
    try check(unsafe fabric_interface_set_up(name), "set \(name) up")
  }

  public func rename(to other: NetworkInterface) throws(InterfaceError) {
    try check(
      unsafe fabric_interface_rename(name, other.name), "rename \(name) to \(other.name)")
  }

  /// Removes it: it is gone when this returns.
  public func remove() throws(InterfaceError) {
    try check(fabric_interface_remove(index), "remove \(name)")
  }

  @discardableResult
  private func check(_ result: CInt, _ words: String) throws(InterfaceError) -> CInt {
    guard result >= 0 else { throw .system(words, .current) }
    return result
  }

  /// As the kernel calls it, which is not ours to doubt.
  init(asFound name: String) { self.name = name }

  /// Of the calling process: another number for each network namespace.
  public static var namespace: UInt64 { fabric_network_namespace() }
}

/// A name that the kernel writes.
enum InterfaceName {
  static func read(_ body: (UnsafeMutablePointer<CChar>) -> CInt) -> String? {
    var bytes = [CChar](repeating: 0, count: Int(fabric_interface_name_max) + 1)
    let result = unsafe bytes.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress!) }
    guard result == 0 else { return nil }
    return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
