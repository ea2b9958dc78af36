import CFabricLinux

/// An IPv4 or IPv6 address with a port. The corresponding C types are `sockaddr_in` and
/// `sockaddr_in6`.
public struct InternetAddress: Hashable, Sendable, CustomStringConvertible {
  /// 4 bytes, or 16.
  public let host: [UInt8]
  public let port: UInt16
  /// The interface of a link-local IPv6 address; else 0.
  let scope: UInt32

  init(_ raw: fabric_internet_address) {
    var raw = raw
    let isV4 = unsafe fabric_address_family(&raw) == fabric_family_v4
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
      unsafe fabric_address_host(&raw, buffer.baseAddress!)
      count = isV4 ? 4 : 16
    }
    // IPv4 within IPv6 is IPv4: our sockets of IPv6 are for that alone. (RFC 4291 section 2.5.5.2)
    host = bytes.starts(with: Self.mappedPrefix) ? Array(bytes.suffix(4)) : bytes
    port = unsafe fabric_address_port(&raw)
    scope = host.count == 4 ? 0 : unsafe fabric_address_scope(&raw)
  }

  private static let mappedPrefix = [UInt8](repeating: 0, count: 10) + [0xff, 0xff]

  /// The same host with another port.
  public func with(port: UInt16) -> InternetAddress {
    InternetAddress(host: host, port: port, scope: scope)
  }

  init(host: [UInt8], port: UInt16, scope: UInt32) {
    self.host = host
    self.port = port
    self.scope = scope
  }

  var raw: fabric_internet_address {
    host.count == 4
      ? unsafe fabric_make_address_v4(host, port) : unsafe fabric_make_address_v6(host, port, scope)
  }

  var family: CInt { host.count == 4 ? fabric_family_v4 : fabric_family_v6 }

  /// Whether it is this machine talking to itself: 127.0.0.0/8 or ::1.
  public var isLoopback: Bool {
    if host.count == 4 { return host[0] == 127 }
    return host.prefix(15).allSatisfy { $0 == 0 } && host[15] == 1
  }

  /// The host alone, as text.
  public var hostDescription: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
      guard
        unsafe inet_ntop(family, host, text.baseAddress!, socklen_t(INET6_ADDRSTRLEN)) != nil
      else { return "?" }
      return unsafe String(cString: text.baseAddress!)
    }
  }

  /// `1.2.3.4:5`, `[::1]:5`, `[fe80::1%eth0]:5`.
  public var description: String {
    host.count == 4
      ? "\(hostDescription):\(port)" : "[\(hostDescription)\(scopeDescription)]:\(port)"
  }

  /// Without it a link-local address leads nowhere: each link has all of them. (RFC 4007 section 11)
  private var scopeDescription: String {
    if scope == 0 { return "" }
    return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(IF_NAMESIZE)) {
      text in
      guard unsafe if_indextoname(scope, text.baseAddress!) != nil else { return "%\(scope)" }
      return unsafe "%" + String(cString: text.baseAddress!)
    }
  }

  /// Whether it is of one link, and which link is not said.
  private var lacksScope: Bool {
    host.count == 16 && host[0] == 0xfe && host[1] & 0xc0 == 0x80 && scope == 0
  }

  /// Why text is no address.
  public struct Malformed: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
  }

  /// Splits HOST:PORT or [IPv6]:PORT.
  public static func split(_ text: String) throws(Malformed) -> (host: String, port: UInt16) {
    let form = "expected HOST:PORT or [IPv6]:PORT, got \"\(text)\""
    guard let colon = text.lastIndex(of: ":") else { throw Malformed(description: form) }
    var host = text[..<colon]
    let digits = text[text.index(after: colon)...]
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }),
      let port = UInt16(digits)
    else {
      throw Malformed(
        description: "expected a port of 0 to 65535 behind the last colon, got \"\(text)\"")
    }
    if host.hasPrefix("[") && host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      guard host.contains(":") else { throw Malformed(description: form) }
    } else if host.contains(where: { ":[]".contains($0) }) {
      throw Malformed(
        description: "expected an IPv6 address in brackets, as [::1]:4420, got \"\(text)\"")
    }
    guard !host.isEmpty else { throw Malformed(description: form) }
    guard host != "*" else {
      throw Malformed(
        description: "expected a host, got \"\(text)\": 0.0.0.0 is every address of IPv4, [::] "
          + "every one of IPv6")
    }
    return (String(host), port)
  }

  /// The addresses that HOST:PORT stands for, at most 8. Names are asked for, which may take the
  /// resolver's time.
  public static func resolve(_ text: String) throws(Malformed) -> [InternetAddress] {
    let (host, port) = try split(text)
    let found: Result<[InternetAddress], Malformed> = unsafe withUnsafeTemporaryAllocation(
      of: fabric_internet_address.self, capacity: 8
    ) { raw in
      let count = unsafe fabric_resolve(host, "\(port)", raw.baseAddress!, 8)
      guard count > 0 else {
        var words = "no address"
        if count < 0, let text = unsafe gai_strerror(count) { words = unsafe String(cString: text) }
        return .failure(
          Malformed(description: "expected a host that can be found, got \"\(host)\": \(words)"))
      }
      return .success((0..<Int(count)).map { unsafe InternetAddress(raw[$0]) })
    }
    let usable = try found.get().filter { !$0.lacksScope }
    guard !usable.isEmpty else {
      throw Malformed(
        description: "expected the interface behind a link-local address, as [fe80::1%eth0]:4420, "
          + "got \"\(text)\"")
    }
    return usable
  }
}
