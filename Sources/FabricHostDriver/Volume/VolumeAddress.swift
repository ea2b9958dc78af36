import FabricPlatform
public import FabricVerbs

/// Where a volume is: a unit's address and the volume's name there. As text it is a URL:
/// `fabric+shm:///run/user/1000/unit.sock/VOLUME`, `fabric+tcp://HOST:PORT/VOLUME`,
/// `fabric+rdma://HOST:PORT/VOLUME`.
public struct VolumeAddress: Hashable, Sendable, CustomStringConvertible {
  public let unit: FabricAddress
  /// Empty: the unit itself, for discovery.
  public let volumeName: String

  public init(unit: FabricAddress, volumeName: String) {
    self.unit = unit
    self.volumeName = volumeName
  }

  /// Why a URL was refused.
  public struct ParsingError: Error, Equatable, Sendable, CustomStringConvertible {
    public let found: String
    public let detail: String
    /// A unit's URL was wanted, not a volume's.
    public internal(set) var isOfUnit = false

    public var description: String {
      let end = isOfUnit ? "" : "/VOLUME"
      return "expected a \(isOfUnit ? "unit's " : "")URL such as "
        + "fabric+shm:///run/user/1000/unit.sock\(end) or fabric+tcp://HOST:PORT\(end), got "
        + "\"\(found)\": \(detail)"
    }
  }

  /// Reads the URL of a volume.
  public init(parsing text: String) throws(ParsingError) {
    let (fabric, rest) = try Self.split(text)
    // A socket's path has slashes, HOST:PORT has none.
    guard let slash = fabric == "shm" ? rest.lastIndex(of: "/") : rest.firstIndex(of: "/") else {
      throw ParsingError(found: text, detail: "the volume's name is missing; append /VOLUME")
    }
    let name = try Self.decoded(rest[rest.index(after: slash)...], of: text)
    guard !name.isEmpty else {
      throw ParsingError(found: text, detail: "the volume's name is missing; append it")
    }
    guard name.utf8.count <= 64 else {
      throw ParsingError(found: text, detail: "the volume's name is longer than 64 bytes")
    }
    let unit = try Self.unit(fabric, String(rest[..<slash]), of: text)
    guard !name.contains("/") else {
      throw ParsingError(found: text, detail: "a volume's name has no \"/\" in it")
    }
    self.init(unit: unit, volumeName: name)
  }

  /// Reads the URL of a unit, which names no volume; `tcp:HOST:PORT`, `rdma:HOST:PORT` and
  /// `shm:PATH` will do, too, and the latter may begin at the current directory.
  public init(parsingUnit text: String) throws(ParsingError) {
    do throws(ParsingError) {
      try self.init(unitOf: text)
    } catch {
      var error = error
      error.isOfUnit = true
      throw error
    }
  }

  private init(unitOf text: String) throws(ParsingError) {
    if !text.contains("://"), let colon = text.firstIndex(of: ":") {
      let endpoint = String(text[text.index(after: colon)...])
      self.init(unit: try Self.unit(String(text[..<colon]), endpoint, of: text), volumeName: "")
      return
    }
    var (fabric, rest) = try Self.split(text)
    while rest.count > 1, rest.last == "/" { rest.removeLast() }
    self.init(unit: try Self.unit(fabric, String(rest), of: text), volumeName: "")
  }

  public var description: String {
    let end = volumeName.isEmpty ? "" : "/\(Self.encoded(volumeName))"
    return "fabric+\(unit.fabric)://\(Self.encoded(unit.endpoint))\(end)"
  }

  private static func split(_ text: String) throws(ParsingError) -> (String, Substring) {
    guard let range = text.firstRange(of: "://") else {
      let hint = Self.meant(by: text).map { "; use \($0)" } ?? ""
      throw ParsingError(found: text, detail: "there is no \"://\" in it\(hint)")
    }
    let scheme = text[..<range.lowerBound].lowercased()
    guard scheme.hasPrefix("fabric+") else {
      if let meant = Self.meant(by: text) {
        throw ParsingError(found: text, detail: "it does not begin with fabric+; use \(meant)")
      }
      throw ParsingError(
        found: text, detail: "it begins neither with fabric+shm nor with fabric+tcp or fabric+rdma")
    }
    return (String(scheme.dropFirst("fabric+".count)), text[range.upperBound...])
  }

  /// The URL that is meant by an address as units write it, such as `tcp:HOST:PORT` or, of one for I2O,
  /// `i2o+tcp:HOST:PORT`, and what to use with it; nil: nobody knows.
  private static func meant(by text: String) -> String? {
    guard let colon = text.firstIndex(of: ":") else { return nil }
    var fabric = text[..<colon].lowercased()
    var rest = String(text[text.index(after: colon)...])
    if rest.hasPrefix("//") { rest.removeFirst(2) }
    let isI2O = fabric.hasPrefix("i2o+")
    if isI2O { fabric.removeFirst("i2o+".count) }
    guard ["shm", "tcp", "rdma"].contains(fabric), !rest.isEmpty else { return nil }
    if fabric == "shm" { rest = FileKind.absolutePath(rest) }
    return "fabric+\(fabric)://\(rest)" + (isI2O ? " with --emulate i2o" : "")
  }

  private static func unit(
    _ fabric: String, _ endpoint: String, of text: String
  ) throws(ParsingError) -> FabricAddress {
    switch fabric {
    case "shm": return try socket(endpoint, of: text)
    case "tcp", "rdma": return try internet(fabric, endpoint, of: text)
    default:
      if let meant = Self.meant(by: text) {
        throw ParsingError(found: text, detail: "it is no URL; use \(meant)")
      }
      throw ParsingError(
        found: text,
        detail: "\"\(fabric)\" is no fabric of this release; "
          + "use fabric+shm, fabric+tcp or fabric+rdma")
    }
  }

  /// A unit at HOST:PORT. Whether there is such a host is found out when connecting.
  private static func internet(
    _ fabric: String, _ endpoint: String, of text: String
  ) throws(ParsingError) -> FabricAddress {
    guard !endpoint.isEmpty else {
      throw ParsingError(found: text, detail: "the unit's HOST:PORT is missing")
    }
    if let slash = endpoint.firstIndex(of: "/") {
      throw ParsingError(
        found: text,
        detail: "\"\(endpoint[slash...])\" comes behind the port; leave that out")
    }
    var host: String
    let port: UInt16
    do throws(InternetAddress.Malformed) {
      (host, port) = try InternetAddress.split(endpoint)
    } catch { throw ParsingError(found: text, detail: error.description) }
    guard port > 0 else {
      throw ParsingError(found: text, detail: "expected a port of 1 to 65535, found 0")
    }
    // An address of IPv6 may go on with its interface; strictly a URL writes %25 before that, which
    // few do. (RFC 6874)
    let isSix = host.contains(":")
    if isSix { host.replace("%25", with: "%") }
    let isPlain = host.utf8.allSatisfy { byte in
      byte > 0x20 && byte < 0x7f && !"@?#\\\"[]<>".utf8.contains(byte)
        && (isSix || byte != UInt8(ascii: "%"))
    }
    guard isPlain else {
      throw ParsingError(
        found: text, detail: "expected a host's name or address, found \"\(host)\"")
    }
    return FabricAddress(
      fabric: fabric, endpoint: isSix ? "[\(host)]:\(port)" : "\(host):\(port)")
  }

  /// A unit at a socket's path.
  private static func socket(
    _ endpoint: String, of text: String
  ) throws(ParsingError) -> FabricAddress {
    var place = try decoded(Substring(endpoint), of: text)
    guard place.hasPrefix("/") || text.hasPrefix("shm:") else {
      throw ParsingError(
        found: text, detail: "the socket's path must be absolute: three slashes after \"shm:\"")
    }
    guard !place.isEmpty, place != "/" else {
      throw ParsingError(found: text, detail: "the socket's path is missing")
    }
    place = FileKind.absolutePath(place)
    let limit = SequencedSocket.maximumPathByteCount
    guard place.utf8.count <= limit else {
      throw ParsingError(
        found: text,
        detail: "the socket's path has \(place.utf8.count) bytes, at most \(limit) are possible; "
          + "choose a shorter one")
    }
    return FabricAddress(fabric: "shm", endpoint: place)
  }

  /// Undoes %XX.
  private static func decoded(
    _ text: Substring, of whole: String
  ) throws(ParsingError) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = rest.prefix(2)
      guard digits.count == 2, let pair = String(validating: digits, as: UTF8.self),
        pair.allSatisfy(\.isHexDigit), let value = UInt8(pair, radix: 16)
      else { throw ParsingError(found: whole, detail: "\"%\" is not followed by two hex digits") }
      guard value > 0 else {
        throw ParsingError(found: whole, detail: "a zero byte, \"%00\", is not allowed in it")
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    guard let string = String(validating: bytes, as: UTF8.self) else {
      throw ParsingError(found: whole, detail: "it is not UTF-8")
    }
    return string
  }

  private static func encoded(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
      let character = Character(UnicodeScalar(byte))
      if byte < 0x80, byte > 0x20, byte != 0x7F, !"%?#\"".contains(character) {
        result.append(character)
      } else {
        result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return result
  }
}
