/// A secret that both sides of a channel have, to prove who they are: HMAC-SHA-256 with it.
///
/// The module `FabricAuthentication` has one. Threads: any.
public protocol ChannelKey: Sendable {
  /// Whose key it is, 1 to 64 bytes of UTF-8 without white space or control characters; goes over
  /// the wire in clear.
  var name: String { get }
  /// The 32 bytes of the code of `bytes`. (RFC 2104)
  func code(of bytes: [UInt8]) -> [UInt8]
  /// Whether `code` is that of `bytes`; how long it takes does not tell where they differ.
  func isCode(_ code: [UInt8], of bytes: [UInt8]) -> Bool
}

/// The keys of an acceptor, by name. Threads: any.
public protocol ChannelKeyring: Sendable {
  /// The key of that name. For a name without a key one that nobody has, so that a peer cannot tell
  /// which names there are.
  func key(named name: String) -> any ChannelKey
}

/// Who is at the other end of a channel that is being opened.
public struct ChannelPeer: Sendable, CustomStringConvertible {
  /// As the fabric tells it: a process, an address.
  public let place: String
  /// The name of the key that it has proven to have; nil where none was asked for.
  public internal(set) var keyName: String?

  public var description: String { place }

  /// What a key may be called: names are said before anything is proven, and go into logs.
  public static func isKeyName(_ name: String) -> Bool {
    (1...64).contains(name.utf8.count)
      && name.unicodeScalars.allSatisfy { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .spaceSeparator, .surrogate,
          .unassigned, .privateUse:
          false
        default: true
        }
      }
  }
}
