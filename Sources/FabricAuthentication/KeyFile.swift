import FabricPlatform
import Foundation

/// A file of keys: one line for each, a name, white space, and the secret in base64 or hexadecimal
/// digits. Empty lines and those that begin with `#` say nothing.
public enum KeyFile {
  /// Why a file of keys cannot be used. No words hold anything of a secret.
  public struct Refusal: Error, Equatable, Sendable, CustomStringConvertible {
    public let path: String
    public let detail: String

    public var description: String { "key file \(path): \(detail)" }
  }

  static let maximumByteCount = 1 << 20

  /// Reads the keys of a file, in order.
  ///
  /// - Throws: when it cannot be read, when others than its owner can read or write it, when a line
  ///   is no key, when a name comes twice, when there is none.
  public static func read(_ path: String) throws(Refusal) -> [PresharedKey] {
    let text: String
    do throws(Errno) {
      text = try PrivateFile.text(path, limit: maximumByteCount)
    } catch {
      throw Refusal(path: path, detail: words(for: error))
    }
    var keys: [PresharedKey] = []
    // Some editors put a mark of UTF-8 in front of a file.
    let mark = text.unicodeScalars.prefix { $0 == "\u{FEFF}" }
    let lines = text[mark.endIndex...].split(
      omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (index, line) in lines.enumerated() {
      guard let key = try key(on: line, number: index + 1, of: path) else { continue }
      guard !keys.contains(where: { $0.name == key.name }) else {
        throw Refusal(
          path: path,
          detail: "expected each name once, \"\(key.name)\" comes again on line \(index + 1): "
            + "remove one")
      }
      keys.append(key)
    }
    guard !keys.isEmpty else {
      throw Refusal(
        path: path, detail: "expected a line NAME SECRET, found none: make one with iounit key NAME"
      )
    }
    return keys
  }

  /// A line with a new key of 32 random bytes for `name`.
  public static func freshLine(name: String) throws(PresharedKey.Refusal) -> String {
    var generator = SystemRandomNumberGenerator()
    let secret = (0..<32).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
    _ = try PresharedKey(name: name, secret: secret)
    return "\(name) \(Data(secret).base64EncodedString())"
  }

  private static func key(
    on line: Substring, number: Int, of path: String
  ) throws(Refusal) -> PresharedKey? {
    let parts = line.split(whereSeparator: \.isWhitespace)
    guard let first = parts.first, !first.hasPrefix("#") else { return nil }
    guard parts.count == 2 else {
      throw Refusal(
        path: path,
        detail: "expected NAME SECRET on line \(number), found \(parts.count) "
          + "word\(parts.count == 1 ? "" : "s")")
    }
    guard !isMistypedHexadecimal(parts[1]) else {
      throw Refusal(
        path: path,
        detail: "expected an even number of hexadecimal digits on line \(number), found other "
          + "characters among them or one too few: copy the secret again")
    }
    guard let secret = secret(String(parts[1])) else {
      throw Refusal(
        path: path,
        detail: "expected a secret in base64 or hexadecimal digits on line \(number), found neither"
      )
    }
    do {
      return try PresharedKey(name: String(first), secret: secret)
    } catch {
      throw Refusal(path: path, detail: "line \(number): \(error)")
    }
  }

  /// Whether nine of ten characters and more are hexadecimal digits, and yet it is none: a third of
  /// base64's are such digits, so that a random secret in base64 does not look like this.
  private static func isMistypedHexadecimal(_ text: Substring) -> Bool {
    let digitCount = text.count { $0.isASCII && $0.isHexDigit }
    let isWhole = digitCount == text.count && digitCount % 2 == 0
    return !isWhole && !text.contains("=") && digitCount >= 16 && digitCount * 10 >= text.count * 9
  }

  /// Hexadecimal where every character is such a digit and they are even in number; else base64.
  private static func secret(_ text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0, text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else {
      return Data(base64Encoded: text).map(Array.init)
    }
    return stride(from: 0, to: digits.count, by: 2).compactMap { index in
      UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16)
    }
  }

  private static func words(for error: Errno) -> String {
    switch error {
    case .permissionDenied:
      "expected a file that only its owner may read and write: make it yours and run chmod 600"
    case .illegalSeek: "expected a regular file, got a folder, pipe or device: name the file itself"
    case .fileTooLarge: "expected at most \(maximumByteCount) bytes of keys"
    case .invalidArgument: "expected text in UTF-8"
    default: "it cannot be read: \(error)"
    }
  }
}
