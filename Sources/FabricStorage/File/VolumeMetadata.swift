import CFabricLinux
import CFabricURing
import FabricPlatform

/// What a volume's sibling file keeps: who it is and which of its blocks are unreadable.
///
/// Text of a few lines, sealed by a checksum:
///
///     fabric-volume 1
///     uuid 2f1c5d3e-...
///     block-size 4096
///     uncorrectable FIRST COUNT        (any number of times)
///     checksum 89abcdef                (CRC-32C of all bytes above)
struct VolumeMetadata: Equatable, Sendable {
  var identifier: VolumeIdentifier
  var blockByteCount: UInt32
  var uncorrectable = BlockRanges()

  var text: String {
    var text = "fabric-volume 1\nuuid \(identifier)\nblock-size \(blockByteCount)\n"
    for range in uncorrectable.ranges {
      text += "uncorrectable \(range.lowerBound) \(range.count)\n"
    }
    return text + "checksum \(String(Checksum.of(Array(text.utf8)), radix: 16))\n"
  }

  /// Reads a description; throws what is wrong with it, in words.
  init(text: String) throws(ParsingFailure) {
    let marker = "checksum "
    guard let start = text.range(ofLast: marker), text.hasSuffix("\n") else {
      throw ParsingFailure(detail: "found one without a checksum")
    }
    let body = String(text[..<start])
    let digits = text[start...].dropFirst(marker.count).dropLast()
    guard let sum = UInt32(digits, radix: 16), sum == Checksum.of(Array(body.utf8)) else {
      throw ParsingFailure(detail: "found one whose checksum does not match its content")
    }
    let lines = body.split(separator: "\n").map { $0.split(separator: " ") }
    guard lines.count >= 3, lines[0] == ["fabric-volume", "1"],
      lines[1].count == 2, lines[1][0] == "uuid", let name = VolumeIdentifier(lines[1][1]),
      lines[2].count == 2, lines[2][0] == "block-size", let block = UInt32(lines[2][1]),
      block == 512 || block == 4096
    else {
      throw ParsingFailure(detail: "found one of a version or form that is not known")
    }
    identifier = name
    blockByteCount = block
    for line in lines.dropFirst(3) {
      guard line.count == 3, line[0] == "uncorrectable", let first = UInt64(line[1]),
        let count = UInt64(line[2]), count > 0, first <= UInt64.max - count,
        uncorrectable.insert(first..<first + count)
      else { throw ParsingFailure(detail: "found the line \"\(line.joined(separator: " "))\"") }
    }
  }

  init(
    identifier: VolumeIdentifier, blockByteCount: UInt32, uncorrectable: BlockRanges = BlockRanges()
  ) {
    self.identifier = identifier
    self.blockByteCount = blockByteCount
    self.uncorrectable = uncorrectable
  }

  struct ParsingFailure: Error, Equatable { let detail: String }

  /// The description at `path`; nil when nothing is there.
  static func read(from path: String) throws(StoreError) -> VolumeMetadata? {
    let number = unsafe fabric_open(path, O_RDONLY, 0)
    guard number >= 0 else {
      let error = Errno.current
      if error == .noSuchFileOrDirectory { return nil }
      throw .notReadable(path: path, reason: error)
    }
    let file = Descriptor(owning: number)
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = unsafe CFabricLinux.read(file.rawValue, &piece, piece.count)
      if count < 0 {
        let error = Errno.current
        if error == .interrupted { continue }
        throw .notReadable(path: path, reason: error)
      }
      if count == 0 { break }
      bytes += piece[..<count]
      if bytes.count > 1 << 20 { throw .metadataCorrupt(path: path, detail: "found over 1 MiB") }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw .metadataCorrupt(path: path, detail: "found something that is not text")
    }
    do throws(ParsingFailure) {
      return try VolumeMetadata(text: text)
    } catch {
      throw .metadataCorrupt(path: path, detail: error.detail)
    }
  }

  /// Replaces the description at `path` as a whole: after a crash it is the old or the new one.
  func write(to path: String) throws(StoreError) {
    let sibling = path + ".new"
    do throws(Errno) {
      let file = try Descriptor(
        result: unsafe fabric_open(sibling, O_WRONLY | O_CREAT | O_TRUNC, 0o600))
      let number = file.rawValue
      var rest = Array(text.utf8)[...]
      while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBytes {
          unsafe CFabricLinux.write(number, $0.baseAddress, $0.count)
        }
        if count < 0, Errno.current != .interrupted { throw Errno.current }
        rest = rest.dropFirst(max(0, count))
      }
      try Errno.check { fsync(number) }
      try Errno.check { unsafe fabric_rename(sibling, path) }
      let slash = path.lastIndex(of: "/")
      let directory = slash.map { String(path[...$0]) } ?? "."
      let parent = try Descriptor(result: unsafe fabric_open(directory, O_RDONLY | O_DIRECTORY, 0))
      let parentNumber = parent.rawValue
      try Errno.check { fsync(parentNumber) }
    } catch {
      _ = unsafe unlink(sibling)
      throw .metadataNotWritable(path: path, reason: error)
    }
  }
}

extension String {
  /// Where the last occurrence of `word` begins.
  fileprivate func range(ofLast word: String) -> Index? {
    var place = endIndex
    while place > startIndex {
      place = index(before: place)
      if self[place...].hasPrefix(word) { return place }
    }
    return nil
  }
}
