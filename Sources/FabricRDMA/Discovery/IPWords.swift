import CFabricVerbs
import Glibc

/// IP addresses in words, and those of this machine's network interfaces.
enum IPWords {
  /// - Precondition: 4 bytes or 16, in the order of the network.
  static func describe(_ bytes: [UInt8]) -> String {
    precondition(bytes.count == 4 || bytes.count == 16, "an IP address has 4 bytes or 16")
    return unsafe withUnsafeTemporaryAllocation(
      of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)
    ) { text in
      let family = bytes.count == 4 ? AF_INET : AF_INET6
      guard
        unsafe inet_ntop(family, bytes, text.baseAddress!, socklen_t(INET6_ADDRSTRLEN)) != nil
      else { return "?" }
      return unsafe String(cString: text.baseAddress!)
    }
  }

  /// Addresses by interface, in the system's order, without those that hold on one link only.
  static func ofInterfaces() -> [String: [String]] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard unsafe getifaddrs(&first) == 0 else { return [:] }
    defer { unsafe freeifaddrs(first) }
    var found: [String: [String]] = [:]
    var entry = unsafe first
    while let current = unsafe entry {
      unsafe entry = current.pointee.ifa_next
      var bytes = [UInt8](repeating: 0, count: 16)
      let count = unsafe Int(fabric_ip_bytes(current.pointee.ifa_addr, &bytes))
      guard count != 0, !isLinkLocal(bytes.prefix(count)) else { continue }
      let name = unsafe String(cString: current.pointee.ifa_name)
      found[name, default: []].append(describe(Array(bytes.prefix(count))))
    }
    return found
  }

  private static func isLinkLocal(_ bytes: ArraySlice<UInt8>) -> Bool {
    bytes.count == 4
      ? bytes[0] == 169 && bytes[1] == 254 : bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80
  }
}
