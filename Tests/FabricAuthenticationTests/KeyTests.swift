import FabricAuthentication
import FabricMessaging
import Foundation
import Testing

@Suite("Keys and their files")
struct KeyTests {
  /// A file that goes with the test.
  final class Scratch {
    let path = NSTemporaryDirectory() + "fabric-keys-\(UUID().uuidString)"
    init(_ text: String, mode: Int = 0o600) throws {
      try Data(text.utf8).write(to: URL(filePath: path))
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  static let hexadecimal = "000102030405060708090a0b0c0d0e0f"

  @Test("Codes are those of RFC 4231, whatever form the file has the secret in")
  func codes() throws {
    // Test case 6 has a longer key than we take; 7 too; these are 1 with its key of 20 bytes, and
    // one computed by another program.
    let one = try PresharedKey(name: "one", secret: [UInt8](repeating: 0x0b, count: 20))
    let code = one.code(of: Array("Hi There".utf8))
    let text = code.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    #expect(text == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    #expect(one.isCode(code, of: Array("Hi There".utf8)))
    for index in code.indices {
      var other = code
      other[index] ^= 1
      #expect(!one.isCode(other, of: Array("Hi There".utf8)))
    }
    #expect(!one.isCode([], of: []) && !one.isCode(Array(code.dropLast()), of: [1]))
    for end in ["\n", "\r\n"] {
      let lines = ["# ours", "", "  a \(Self.hexadecimal)", "b\tAAECAwQFBgcICQoLDA0ODw==  ", ""]
      let file = try Scratch(lines.joined(separator: end))
      let keys = try KeyFile.read(file.path)
      #expect(keys.map(\.name) == ["a", "b"])
      #expect(keys[0].code(of: [1]) == keys[1].code(of: [1]))
    }
  }

  @Test("A mark of UTF-8 in front of a file is no part of the first name")
  func mark() throws {
    let file = try Scratch("\u{FEFF}a \(Self.hexadecimal)\n")
    #expect(try KeyFile.read(file.path).map(\.name) == ["a"])
  }

  @Test("A fresh line is a key, and never the same")
  func fresh() throws {
    let lines = try ["nqn.host", "nqn.host"].map { try KeyFile.freshLine(name: $0) }
    #expect(lines[0] != lines[1])
    let file = try Scratch(lines[0] + "\n")
    #expect(try KeyFile.read(file.path).map(\.name) == ["nqn.host"])
    for name in ["two words", "", "#a", "*", "bell\u{7}", String(repeating: "n", count: 65)] {
      #expect(throws: PresharedKey.Refusal.name) { try KeyFile.freshLine(name: name) }
    }
  }

  @Test(
    "A file that is none is refused, in words that hold no secret",
    arguments: [
      ("", "found none"), ("# only\n", "found none"), ("a\n", "found 1 word"),
      ("a \(hexadecimal) more\n", "found 3 words"), ("a 00010203\n", "16 to 64 bytes, got 4"),
      ("a b!!!cdefghijklmnopq\n", "found neither"), ("a AAECAwQFBgcICQoLDA0O\n", "got 15"),
      ("a \(hexadecimal)\na \(hexadecimal)\n", "comes again on line 2"),
      ("\(String(repeating: "n", count: 65)) \(hexadecimal)\n", "1 to 64 bytes"),
      ("a \(String(repeating: "00", count: 65))\n", "got 65"),
      // Each would do as base64, or nearly.
      ("a \(hexadecimal)0\n", "even number of hexadecimal digits on line 1"),
      ("a \(hexadecimal.dropLast())g\n", "even number of hexadecimal digits on line 1"),
      ("a \(hexadecimal)\(hexadecimal.dropLast())\n", "even number of hexadecimal digits"),
    ])
  func badFiles(_ text: String, _ words: String) throws {
    let file = try Scratch(text)
    #expect {
      try KeyFile.read(file.path)
    } throws: { error in
      "\(error)".hasPrefix("key file \(file.path): ") && "\(error)".contains(words)
        && !"\(error)".contains("0001") && !"\(error)".contains("AAEC")
    }
  }

  @Test("A file that others can read or write is refused", arguments: [0o640, 0o604, 0o620, 0o601])
  func modes(_ mode: Int) throws {
    let file = try Scratch("a \(Self.hexadecimal)\n", mode: mode)
    #expect {
      try KeyFile.read(file.path)
    } throws: { "\($0)".contains("chmod 600") }
  }

  @Test("What cannot be read is named")
  func unreadable() throws {
    for (path, words) in [
      ("/none/keys", "No such file"), ("/proc", "a regular file"), ("/dev/null", "a regular file"),
    ] {
      #expect {
        try KeyFile.read(path)
      } throws: { "\($0)".contains(path) && "\($0)".contains(words) }
    }
    let long = try Scratch(String(repeating: "#\n", count: 1 << 20))
    #expect { try KeyFile.read(long.path) } throws: { "\($0)".contains("at most 1048576 bytes") }
  }

  @Test("Nothing that is printed of a key holds its secret")
  func printing() throws {
    let secret = Array("sixteen letters!".utf8)
    let key = try PresharedKey(name: "a", secret: secret)
    var options = ChannelOptions()
    options.key = key
    options.keys = Keyring([key])
    var dumped = ""
    dump(options, to: &dumped)
    let numbers = "115, 105, 120"
    for text in ["\(key)", String(reflecting: key), "\(options)", dumped] {
      #expect(!text.contains("sixteen") && !text.contains(numbers), "\(text)")
    }
  }

  @Test("A name without a key gets one each time that nobody has")
  func unknownNames() throws {
    let ring = Keyring([try PresharedKey(name: "a", secret: Array("sixteen letters!".utf8))])
    #expect(ring.names == ["a"])
    #expect(ring.key(named: "a").code(of: [1]) == ring.key(named: "a").code(of: [1]))
    #expect(ring.key(named: "b").code(of: [1]) != ring.key(named: "b").code(of: [1]))
  }
}
