import ArgumentParser
import FabricCommandLine
import FabricHostDriver
import FabricStorage

struct Read: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads blocks into a file or to the standard output.",
    discussion: "Example: iohost read URL --block 0 --count 8 | hexdump -C")

  @Argument(help: "The volume.") var url: String
  @Option(name: .long, parsing: .unconditional, help: "The first block.") var block: UInt64 = 0
  @Option(name: .long, parsing: .unconditional, help: "How many blocks.") var count: UInt64 = 1
  @Option(name: .long, help: "Where to; - is the standard output.") var output = "-"
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard count > 0 else { throw ValidationError("expected --count of at least 1, got 0") }
  }

  func run() async {
    await reporting {
      let volume = try await connection.attach(url, access: .readOnly)
      let info = volume.info
      try checkBlocks(block, count, of: info)
      let file = try LocalFile.writing(output, byteCount: count * UInt64(info.blockByteCount))
      let buffer = try volume.makeBuffer(byteCount: Pieces.byteCount)
      let step = UInt64(Pieces.byteCount) / UInt64(info.blockByteCount)
      var place = block
      // In order: the output may be a stream.
      try await file.filling {
        while place < block + count {
          let now = min(step, block + count - place)
          try await volume.read(block: place, count: now, into: buffer)
          try unsafe buffer.withBytes { bytes in
            let part = unsafe UnsafeRawBufferPointer(
              rebasing: bytes.prefix(Int(now) * Int(info.blockByteCount)))
            try unsafe file.write(part, at: (place - block) * UInt64(info.blockByteCount))
          }
          place += now
        }
      }
      await volume.close()
    }
  }
}

struct Write: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes whole blocks from a file or the standard input, and flushes.",
    discussion: "Example: iohost write URL --block 0 --input image")

  @Argument(help: "The volume.") var url: String
  @Option(name: .long, parsing: .unconditional, help: "The first block.") var block: UInt64 = 0
  @Option(name: .long, help: "Where from; - is the standard input.") var input = "-"
  @OptionGroup var connection: ConnectionOptions

  func run() async {
    await reporting {
      let file = try LocalFile.reading(input)
      let volume = try await connection.attach(url, access: .readWrite)
      let info = volume.info
      let blockByteCount = Int(info.blockByteCount)
      if let size = file.byteCount {
        try checkWhole(size, of: file, info)
        try checkSize(size, of: info)
      }
      try checkBlocks(block, 0, of: info)
      let buffer = try volume.makeBuffer(byteCount: Pieces.byteCount)
      var done: UInt64 = 0
      while true {
        let count = try unsafe buffer.withBytes { try unsafe file.read($0, at: done) }
        if count == 0 { break }
        guard count % blockByteCount == 0 else {
          throw ToolFailure(
            64,
            "expected whole blocks of \(blockByteCount) bytes, the input ended "
              + "\(count % blockByteCount) bytes into one, after \(done) bytes that were written; "
              + "pad it")
        }
        let blocks = UInt64(count / blockByteCount)
        let first = block + done / UInt64(blockByteCount)
        guard first <= info.blockCount, blocks <= info.blockCount - first else {
          throw ToolFailure(
            64,
            "expected at most \(info.byteCount - block * UInt64(blockByteCount)) bytes, which is "
              + "what lies behind block \(block), the input goes on: \(done) bytes were written, "
              + "up to block \(first), and not flushed")
        }
        try await volume.write(block: first, count: blocks, from: buffer)
        done += UInt64(count)
        if count < buffer.byteCount { break }
      }
      guard done > 0 else {
        throw ToolFailure(66, "expected something to write, \(file.path) holds nothing")
      }
      try await volume.flush()
      await volume.close()
      Output.error("wrote \(done) bytes from block \(block) and flushed")
    }
  }

  private func checkSize(_ size: UInt64, of info: RemoteVolumeInfo) throws {
    guard block < info.blockCount else {
      throw ToolFailure(
        64, "expected --block of at most \(info.blockCount - 1), the volume's last, got \(block)")
    }
    let room = info.byteCount - block * UInt64(info.blockByteCount)
    guard size <= room else {
      throw ToolFailure(
        64,
        "expected at most \(room) bytes, which is what lies behind block \(block), "
          + "got \(size) in \(input)")
    }
  }
}

/// - Throws: unless a file's bytes are whole blocks.
func checkWhole(_ byteCount: UInt64, of file: LocalFile, _ info: RemoteVolumeInfo) throws {
  let block = UInt64(info.blockByteCount)
  guard byteCount % block != 0 else { return }
  throw ToolFailure(
    64,
    "expected whole blocks of \(block) bytes, got \(byteCount) bytes in \(file.path); "
      + "pad a copy of it: truncate -s \((byteCount / block + 1) * block) COPY")
}

/// - Throws: unless the blocks lie inside the volume.
func checkBlocks(_ block: UInt64, _ count: UInt64, of info: RemoteVolumeInfo) throws {
  guard block <= info.blockCount, count <= info.blockCount - block else {
    throw ToolFailure(
      64,
      "expected blocks inside the volume's \(info.blockCount), "
        + "got \(count) from block \(block)")
  }
}

struct Copy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Copies a whole image from a file to a volume, or the other way.",
    discussion: """
      One of the two is a volume's URL. An image must be whole blocks; one that is shorter than \
      the volume leaves the rest as it is. A volume can go to a stream, such as - or /dev/null.
      Example: iohost copy image.raw fabric+shm:///run/user/1000/unit.sock/disk --verify
      """)

  @Argument(help: "Where from: a path or a URL.") var source: String
  @Argument(help: "Where to: a URL or a path.") var destination: String
  @Flag(name: .long, help: "Reads back what was written and compares.") var verify = false
  @Flag(name: .long, help: "Reports as JSON, and no progress.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func run() async {
    await reporting {
      switch (source.contains("://"), destination.contains("://")) {
      case (false, true): try await toVolume()
      case (true, false): try await toFile()
      case (true, true):
        throw ToolFailure(64, "expected a file on one side, got two URLs; copy by way of a file")
      case (false, false):
        throw ToolFailure(64, "expected a volume's URL on one side, got two paths")
      }
    }
  }

  private func toVolume() async throws {
    let file = try LocalFile.reading(source)
    guard let byteCount = file.byteCount else {
      throw ToolFailure(64, "expected a file, \(file.path) is a stream; use iohost write")
    }
    guard byteCount > 0 else {
      throw ToolFailure(66, "expected a file that holds something at \(source), found it empty")
    }
    let volume = try await connection.attach(destination, access: .readWrite)
    guard byteCount <= volume.info.byteCount else {
      throw ToolFailure(
        64,
        "expected at most \(volume.info.byteCount) bytes, which is the volume's size, "
          + "got \(byteCount) in \(source)")
    }
    try checkWhole(byteCount, of: file, volume.info)
    let block = UInt64(volume.info.blockByteCount)
    let blocks = 0..<byteCount / block
    let progress = Progress("copying ", total: blocks.upperBound * block, isQuiet: json)
    try await Pieces.forEach(of: blocks, on: volume) { buffer, piece in
      let size = piece.count * Int(block)
      _ = try unsafe buffer.withBytes { bytes in
        try unsafe file.read(
          UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(size)),
          at: piece.lowerBound * block)
      }
      try await volume.write(block: piece.lowerBound, count: UInt64(piece.count), from: buffer)
      progress.add(size)
    }
    try await volume.flush()
    progress.finish()
    let seconds = progress.seconds
    if verify { try await compare(file, with: volume, blocks) }
    await volume.close()
    report(byteCount, in: seconds)
  }

  private func toFile() async throws {
    let volume = try await connection.attach(source, access: .readOnly)
    let info = volume.info
    let file = try LocalFile.writing(destination, byteCount: info.byteCount)
    let isStream = file.byteCount == nil
    guard !isStream || !verify else {
      throw ToolFailure(
        64, "expected a file, \(file.path) is a stream and cannot be read back; leave --verify out")
    }
    let progress = Progress("copying ", total: info.byteCount, isQuiet: json)
    let block = UInt64(info.blockByteCount)
    try await file.filling {
      try await Pieces.forEach(of: 0..<info.blockCount, on: volume, inOrder: isStream) {
        buffer, piece in
        let size = piece.count * Int(block)
        try await volume.read(block: piece.lowerBound, count: UInt64(piece.count), into: buffer)
        try unsafe buffer.withBytes { bytes in
          let part = unsafe UnsafeRawBufferPointer(rebasing: bytes.prefix(size))
          try unsafe file.write(part, at: piece.lowerBound * block)
        }
        progress.add(size)
      }
      try file.synchronize()
    }
    progress.finish()
    let seconds = progress.seconds
    if verify { try await compare(file, with: volume, 0..<info.blockCount) }
    await volume.close()
    // The data has the standard output for itself.
    report(info.byteCount, in: seconds, with: file.isStandardOutput ? Output.error : Output.line)
  }

  /// Reads both sides and compares them.
  private func compare(
    _ file: LocalFile, with volume: RemoteVolume, _ blocks: Range<UInt64>
  ) async throws {
    let block = UInt64(volume.info.blockByteCount)
    let progress = Progress("checking", total: blocks.upperBound * block, isQuiet: json)
    try await Pieces.forEach(of: blocks, on: volume) { buffer, piece in
      let size = piece.count * Int(block)
      try await volume.read(block: piece.lowerBound, count: UInt64(piece.count), into: buffer)
      var local = [UInt8](repeating: 0, count: size)
      _ = try unsafe local.withUnsafeMutableBytes { bytes in
        try unsafe file.read(bytes, at: piece.lowerBound * block)
      }
      let difference = unsafe buffer.withBytes { bytes in
        unsafe zip(bytes, local).enumerated().first { $0.element.0 != $0.element.1 }?.offset
      }
      if let difference {
        throw ToolFailure(
          1,
          "the volume and the file differ in block "
            + "\(piece.lowerBound + UInt64(difference) / block)")
      }
      progress.add(size)
    }
    progress.finish()
  }

  private func report(
    _ byteCount: UInt64, in seconds: Double, with line: (String) -> Void = Output.line
  ) {
    let rate = Double(byteCount) / max(seconds, 1e-9)
    if json {
      return line(
        JSON.object([
          ("byteCount", .whole(byteCount)), ("seconds", .number(seconds)),
          ("bytesPerSecond", .number(rate)), ("verified", .flag(verify)),
        ]).description)
    }
    line(
      "copied \(byteCount) bytes at \(describeBytes(rate))/s"
        + (verify ? ", and checked them" : ""))
  }
}
