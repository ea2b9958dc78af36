import FabricPlatform
public import FabricVerbs

/// Where a volume is: a unit's address and the volume's name there. As text it is a URL:
/// `fabric+shm:///run/user/1000/unit.sock/VOLUME`.
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

    public var description: String {
      "expected a URL such as fabric+shm:///run/user/1000/unit.sock/VOLUME, got \"\(found)\": "
        + detail
    }
  }

  /// Reads the URL of a volume.
  public init(parsing text: String) throws(ParsingError) {
    let (fabric, rest) = try Self.split(text)
    guard let slash = rest.lastIndex(of: "/") else {
      throw ParsingError(found: text, detail: "the volume's name is missing; append /VOLUME")
    }
    let name = try Self.decoded(rest[rest.index(after: slash)...], of: text)
    guard !name.isEmpty else {
      throw ParsingError(found: text, detail: "the volume's name is missing; append it")
    }
    guard name.utf8.count <= 64 else {
      throw ParsingError(found: text, detail: "the volume's name is longer than 64 bytes")
    }
    self.init(
      unit: try Self.unit(fabric, String(rest[..<slash]), of: text), volumeName: name)
  }

  /// Reads the URL of a unit, which names no volume; `shm:PATH` will do, too, and may begin at the
  /// current directory.
  public init(parsingUnit text: String) throws(ParsingError) {
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
      throw ParsingError(found: text, detail: "there is no \"://\" in it")
    }
    let scheme = text[..<range.lowerBound].lowercased()
    guard scheme.hasPrefix("fabric+") else {
      throw ParsingError(found: text, detail: "it does not begin with fabric+shm")
    }
    return (String(scheme.dropFirst("fabric+".count)), text[range.upperBound...])
  }

  private static func unit(
    _ fabric: String, _ endpoint: String, of text: String
  ) throws(ParsingError) -> FabricAddress {
    guard fabric == "shm" else {
      throw ParsingError(
        found: text,
        detail: "\"\(fabric)\" is no fabric of this release, which has shared memory only; "
          + "use fabric+shm")
    }
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
    return FabricAddress(fabric: fabric, endpoint: place)
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
