/// NVMe Qualified Names: of hosts, of subsystems. (Base 1.4, section 7.9)
public enum QualifiedName {
  /// The longest, in bytes, without the null at its end.
  public static let byteLimit = 223
  /// Of every discovery subsystem. (NVMe over Fabrics 1.1, section 5)
  public static let discovery = "nqn.2014-08.org.nvmexpress.discovery"

  /// Why text is none; nil: it is one.
  public static func fault(in text: String) -> String? {
    let form = "expected a name such as nqn.2024-01.org.example:unit, got \"\(text)\""
    guard text.utf8.count <= byteLimit else {
      return "\(form), which is longer than \(byteLimit) bytes"
    }
    guard text.hasPrefix("nqn."), text.utf8.count >= 12, !text.utf8.contains(0) else { return form }
    return nil
  }

  /// Reads the bytes of a field of 256, which a null ends; nil where there is none in time, or what is
  /// before it is no UTF-8.
  static func read(_ bytes: some Collection<UInt8>) -> String? {
    guard let end = bytes.firstIndex(of: 0),
      bytes.distance(from: bytes.startIndex, to: end) <= byteLimit
    else { return nil }
    return String(validating: bytes[..<end], as: UTF8.self)
  }
}

/// Who connects: what a host calls itself, and its 128-bit identifier.
public struct HostIdentity: Hashable, Sendable {
  public var name: String
  public var identifier: [UInt8]

  public init(name: String, identifier: [UInt8]) {
    self.name = name
    self.identifier = identifier
  }
}
