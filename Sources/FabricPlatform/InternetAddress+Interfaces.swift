import Glibc

extension InternetAddress {
  /// Whether it stands for every address of this machine: 0.0.0.0 or ::.
  public var isWildcard: Bool { host.allSatisfy { $0 == 0 } }

  /// Where others reach what listens at this address: for a wildcard the addresses of this machine's
  /// interfaces that are up, of the same kind and port; this machine's own and link-local ones are left
  /// out, unless there are no others. Any other address stands for itself.
  public var reachable: [InternetAddress] {
    guard isWildcard else { return [self] }
    let found = Self.ofInterfaces.filter { $0.host.count == host.count }
    let global = found.filter { !$0.isLoopback && !$0.isLinkLocal }
    return (global.isEmpty ? found.filter(\.isLoopback) : global).map { $0.with(port: port) }
  }

  /// 169.254.0.0/16 or fe80::/10.
  private var isLinkLocal: Bool {
    host.count == 4
      ? host[0] == 169 && host[1] == 254 : host[0] == 0xfe && host[1] & 0xc0 == 0x80
  }

  /// The addresses of the interfaces that are up, each once.
  private static var ofInterfaces: [InternetAddress] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard unsafe getifaddrs(&first) == 0 else { return [] }
    defer { unsafe freeifaddrs(first) }
    var found: [InternetAddress] = []
    var next = unsafe first
    while let entry = unsafe next {
      unsafe next = entry.pointee.ifa_next
      guard unsafe entry.pointee.ifa_flags & UInt32(IFF_UP) != 0,
        let address = unsafe InternetAddress(entry.pointee.ifa_addr), !found.contains(address)
      else { continue }
      found.append(address)
    }
    return found
  }

  /// nil for what is not of IP.
  private init?(_ address: UnsafeMutablePointer<sockaddr>?) {
    guard let address = unsafe address else { return nil }
    switch unsafe CInt(address.pointee.sa_family) {
    case AF_INET:
      let host = unsafe UnsafeRawPointer(address).loadUnaligned(
        fromByteOffset: 4, as: UInt32.self)
      self.init(host: unsafe withUnsafeBytes(of: host) { unsafe Array($0) }, port: 0, scope: 0)
    case AF_INET6:
      let host = unsafe UnsafeRawPointer(address).loadUnaligned(
        fromByteOffset: 8, as: (UInt64, UInt64).self)
      self.init(host: unsafe withUnsafeBytes(of: host) { unsafe Array($0) }, port: 0, scope: 0)
    default: return nil
    }
  }
}
