import Crypto
public import FabricMessaging
import Foundation
import Synchronization

/// A key that a host and a unit share, for HMAC-SHA-256 (RFC 2104, FIPS 180-4).
///
/// Nothing that is printed of it holds the secret. Threads: any.
public struct PresharedKey: ChannelKey, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  /// The fewest bytes of a secret. Whoever can connect hears codes of it and may try guesses at
  /// home, so that it has to be random.
  public static let minimumByteCount = 16
  /// More bytes than the hash's block bring nothing.
  public static let maximumByteCount = 64

  public let name: String
  private let secret: SymmetricKey

  /// Why a name and a secret do not make a key.
  public enum Refusal: Error, Equatable, Sendable, CustomStringConvertible {
    case name
    case length(Int)

    public var description: String {
      switch self {
      case .name:
        "expected a key's name of 1 to 64 bytes without white space, and no # or * in front"
      case .length(let count):
        "expected a key of \(minimumByteCount) to \(maximumByteCount) bytes, got \(count): make one "
          + "with iounit key NAME"
      }
    }
  }

  public init(name: String, secret: [UInt8]) throws(Refusal) {
    // Files take # for a remark, rights take * for every host.
    guard ChannelPeer.isKeyName(name), !name.hasPrefix("#"), !name.hasPrefix("*") else {
      throw .name
    }
    guard (Self.minimumByteCount...Self.maximumByteCount).contains(secret.count) else {
      throw .length(secret.count)
    }
    self.name = name
    self.secret = SymmetricKey(data: secret)
  }

  private init(unknown name: String) {
    self.name = name
    secret = SymmetricKey(size: .bits256)
  }

  /// A key that nobody else has.
  static func unheard(of name: String) -> PresharedKey { PresharedKey(unknown: name) }

  public func code(of bytes: [UInt8]) -> [UInt8] {
    Array(HMAC<SHA256>.authenticationCode(for: bytes, using: secret))
  }

  public func isCode(_ code: [UInt8], of bytes: [UInt8]) -> Bool {
    HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: bytes, using: secret)
  }

  public var description: String { "key of \(name)" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["name": name]) }
}

/// A keyring that may be exchanged for another while channels are opened with it: what is under way
/// goes on with the keys that it found. Threads: any.
public final class ReplaceableKeyring: ChannelKeyring {
  private let current: Mutex<Keyring>

  public init(_ keyring: Keyring) { current = Mutex(keyring) }

  /// The one in use.
  public var keyring: Keyring { current.withLock { $0 } }

  /// Channels that are opened from now on prove a key of this one; those that are open stay so.
  public func replace(with keyring: Keyring) { current.withLock { $0 = keyring } }

  public func key(named name: String) -> any ChannelKey { keyring.key(named: name) }
}

/// Keys by name.
public struct Keyring: ChannelKeyring, Sendable {
  private let keys: [String: PresharedKey]

  /// - Parameter keys: of different names; of two with one name the last counts.
  public init(_ keys: [PresharedKey]) {
    self.keys = Dictionary(keys.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
  }

  /// In order.
  public var names: [String] { keys.keys.sorted() }

  public func key(named name: String) -> any ChannelKey {
    // Made in any case, so that an unknown name takes as long as a known one.
    let unheard = PresharedKey.unheard(of: name)
    return keys[name] ?? unheard
  }
}
