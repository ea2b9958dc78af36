import FabricPlatform
import FabricStorage
import Testing

@Suite("Sizes and identities")
struct SizeTests {
  @Test("ST-80: sizes are read as people write them")
  func sizes() throws {
    let right: [(String, UInt64)] = [
      ("4096", 4096), ("1GiB", 1 << 30), ("512MiB", 512 << 20), ("1g", 1 << 30), ("2K", 2048),
      ("1.5TiB", 3 << 39), ("1MB", 1_000_000), ("0.5KiB", 512),
      ("7EiB".dropLast(3) + "PiB", 7 << 50),
    ]
    for (text, value) in right { #expect(try ByteSize.parse(text) == value) }
    let wrong: [(String, ByteSize.ParsingError)] = [
      ("", .malformed("")), ("GiB", .malformed("GiB")), ("-1", .malformed("-1")),
      ("1.", .malformed("1.")), ("1.2.3K", .malformed("1.2.3K")), ("1 GiB", .malformed("1 GiB")),
      ("0.3B", .malformed("0.3B")), ("5x", .malformed("5x")), ("0", .zero("0")),
      ("0GiB", .zero("0GiB")), ("9000PiB", .tooLarge("9000PiB")),
      ("99999999999999999999", .tooLarge("99999999999999999999")),
    ]
    for (text, error) in wrong { #expect(throws: error) { _ = try ByteSize.parse(text) } }
    #expect(ByteSize.describe(512 << 20) == "512MiB")
    #expect(ByteSize.describe(1000) == "1000B")
  }

  @Test("ST-81: an identity is written and read the same")
  func identities() {
    let name = VolumeIdentifier.random()
    #expect(VolumeIdentifier(name.description) == name)
    #expect(name != .random())
    #expect(name.description.utf8.count == 36)
    let fixed = VolumeIdentifier(high: 0x0123_4567_89AB_CDEF, low: 1)
    #expect(fixed.description == "01234567-89ab-cdef-0000-000000000001")
    for wrong in [
      "", "01234567-89ab-cdef-0000-00000000000", "0123456789abcdef0000000000000001",
      "+1234567-89ab-cdef-0000-000000000001",
    ] { #expect(VolumeIdentifier(wrong) == nil) }
  }

  @Test("ST-82: every status and error says what to make of it")
  func words() {
    for status in BlockStatus.allCases { #expect(!status.explanation.isEmpty) }
    #expect(Set(BlockStatus.allCases.map(\.explanation)).count == BlockStatus.allCases.count)
    let error = StoreError.sizeNotMultiple(path: "/x", byteCount: 4097, blockByteCount: 4096)
    #expect("\(error)".contains("4097") && "\(error)".contains("8192"))
    for (reason, advice) in [
      (Errno.noSpace, "make room"), (.fileTooLarge, "ulimit -f"), (.tooManyOpenFiles, "ulimit -n"),
      (.permissionDenied, "make its directory writable"),
    ] {
      let words = "\(StoreError.metadataNotWritable(path: "/x", reason: reason))"
      #expect(words.contains("\(reason)") && words.contains(advice), "\(words)")
    }
  }
}
