import ArgumentParser
import FabricCommandLine
import FabricHostDriver
import FabricStorage
import Synchronization

struct Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a pattern that describes itself and reads it back. Destroys what was there.",
    discussion: """
      Each pass writes every block with the next generation and flushes. Then all blocks are \
      read: each must be whole, in its place and of the last generation. With --read-only only \
      the reading is done, after a restart say: each block must be of generation --generation \
      or later. All that is to be written is read first: a volume that holds something else than \
      zeroes or a pattern is left alone, unless --overwrite is given. JSON tells the seconds of \
      the writing and checking, and the bytes per second that were written and read in them.
      Example: iohost verify fabric+shm:///run/user/1000/unit.sock/disk --passes 2
      """)

  @Argument(help: "The volume.") var url: String
  @Option(name: .long, parsing: .unconditional, help: "Tells one writer's pattern from another's.")
  var seed: UInt64 = 1
  @Option(
    name: .long, parsing: .unconditional,
    help: "The first generation to write, or the earliest to accept.")
  var generation: UInt64 = 1
  @Option(
    name: .long, parsing: .unconditional, help: "How often everything is written; 1 without it.")
  var passes: UInt64?
  @Option(name: .long, help: "How much, from the volume's start, such as 64MiB; all without it.")
  var size: String?
  @Flag(name: .long, help: "Only reads and checks.") var readOnly = false
  @Flag(name: .long, help: "Writes even where there is something else than a pattern.")
  var overwrite = false
  @Flag(name: .long, help: "Reports as JSON, and no progress.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard passes != 0 else { throw ValidationError("expected --passes of at least 1, got 0") }
    if readOnly, overwrite || passes != nil {
      throw ValidationError(
        "expected --read-only without \(overwrite ? "--overwrite" : "--passes"), which writes")
    }
    guard !generation.addingReportingOverflow(passes ?? 1).overflow else {
      throw ValidationError("expected --generation and --passes below 2^64 together")
    }
  }

  func run() async {
    await reporting {
      let volume = try await connection.attach(url, access: readOnly ? .readOnly : .readWrite)
      let blocks = try area(of: volume.info)
      let pattern = Pattern(seed: seed)
      let passes = passes ?? 1
      if !readOnly && !overwrite { try await checkIsFree(volume, blocks) }
      let start = ContinuousClock.now
      if !readOnly {
        for pass in 0..<passes {
          try await write(pattern, generation + pass, volume, blocks)
        }
      }
      let expected = readOnly ? generation : generation + passes - 1
      let result = try await check(pattern, from: expected, volume, blocks)
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      await volume.close()
      try report(result, blocks, volume.info, seconds: seconds)
    }
  }

  private func area(of info: RemoteVolumeInfo) throws -> Range<UInt64> {
    guard let size else { return 0..<info.blockCount }
    let byteCount: UInt64
    do { byteCount = try ByteSize.parse(size) } catch { throw ToolFailure(64, "\(error)") }
    guard byteCount % UInt64(info.blockByteCount) == 0, byteCount <= info.byteCount else {
      throw ToolFailure(
        64,
        "expected --size of whole blocks of \(info.blockByteCount) bytes and at most "
          + "\(info.byteCount), got \(byteCount)")
    }
    return 0..<byteCount / UInt64(info.blockByteCount)
  }

  /// Looks at every block: where there is data of somebody else's, it is not written over.
  private func checkIsFree(_ volume: RemoteVolume, _ blocks: Range<UInt64>) async throws {
    let foreign = Kept<UInt64?>(nil)
    try await unsafe forEachBlock(volume, blocks, "looking ") { part, number in
      if unsafe Pattern.mayBeWritten(part) { return }
      foreign.change { $0 = min($0 ?? .max, number) }
    }
    if let number = foreign.value {
      throw ToolFailure(
        64,
        "expected an empty volume or one with a pattern, block \(number) holds data; "
          + "to destroy it, add --overwrite")
    }
  }

  /// Reads all blocks, in no order, and hands each with its number to `look`.
  private func forEachBlock(
    _ volume: RemoteVolume, _ blocks: Range<UInt64>, _ title: String,
    look: @escaping @Sendable (UnsafeRawBufferPointer, UInt64) -> Void
  ) async throws {
    let block = Int(volume.info.blockByteCount)
    let progress = Progress(title, total: blocks.upperBound * UInt64(block), isQuiet: json)
    try await Pieces.forEach(of: blocks, on: volume) { buffer, piece in
      try await volume.read(block: piece.lowerBound, count: UInt64(piece.count), into: buffer)
      unsafe buffer.withBytes { bytes in
        for (index, number) in piece.enumerated() {
          unsafe look(
            UnsafeRawBufferPointer(rebasing: bytes[index * block..<(index + 1) * block]), number)
        }
      }
      progress.add(piece.count * block)
    }
    progress.finish()
  }

  private func write(
    _ pattern: Pattern, _ generation: UInt64, _ volume: RemoteVolume, _ blocks: Range<UInt64>
  ) async throws {
    let block = Int(volume.info.blockByteCount)
    let progress = Progress(
      "writing ", total: blocks.upperBound * UInt64(block), isQuiet: json)
    try await Pieces.forEach(of: blocks, on: volume) { buffer, piece in
      unsafe buffer.withBytes { bytes in
        for (index, number) in piece.enumerated() {
          let part = unsafe UnsafeMutableRawBufferPointer(
            rebasing: bytes[index * block..<(index + 1) * block])
          unsafe pattern.fill(part, block: number, generation: generation)
        }
      }
      try await volume.write(block: piece.lowerBound, count: UInt64(piece.count), from: buffer)
      progress.add(piece.count * block)
    }
    try await volume.flush()
    progress.finish()
    if !json { Output.error("generation \(generation) is written and flushed") }
  }

  private struct Outcome {
    var wrongCount: UInt64 = 0
    var examples: [String] = []

    mutating func add(_ block: UInt64, _ words: String) {
      wrongCount += 1
      if examples.count < 5 { examples.append("block \(block) \(words)") }
    }
  }

  private func check(
    _ pattern: Pattern, from generation: UInt64, _ volume: RemoteVolume, _ blocks: Range<UInt64>
  ) async throws -> Outcome {
    let outcome = Kept(Outcome())
    try await unsafe forEachBlock(volume, blocks, "checking") { part, number in
      switch unsafe pattern.check(part, block: number) {
      case .valid(let found) where found >= generation: break
      case .valid(let found):
        outcome.change { $0.add(number, "is of generation \(found), older than \(generation)") }
      case .empty: outcome.change { $0.add(number, "was never written") }
      case .wrong(let words): outcome.change { $0.add(number, words) }
      }
    }
    return outcome.value
  }

  private func report(
    _ outcome: Outcome, _ blocks: Range<UInt64>, _ info: RemoteVolumeInfo, seconds: Double
  ) throws {
    if json {
      // Of all that was written and read.
      let sweepCount = readOnly ? 1 : Double(passes ?? 1) + 1
      let byteCount = Double(blocks.upperBound) * Double(info.blockByteCount) * sweepCount
      Output.line(
        JSON.object([
          ("blockCount", .whole(blocks.upperBound)), ("wrongCount", .whole(outcome.wrongCount)),
          ("examples", .list(outcome.examples.map { .text($0) })), ("seconds", .number(seconds)),
          ("bytesPerSecond", .number(byteCount / max(seconds, 1e-9))),
        ]).description)
    } else if outcome.wrongCount == 0 {
      Output.line(
        "verified \(blocks.upperBound) block\(blocks.upperBound == 1 ? "" : "s") of \(info.blockByteCount) bytes"
      )
    }
    guard outcome.wrongCount == 0 else {
      throw ToolFailure(
        1,
        "\(outcome.wrongCount) of \(blocks.upperBound) blocks are wrong: "
          + outcome.examples.joined(separator: "; "))
    }
  }

  /// A value that several tasks change.
  private final class Kept<Value: Sendable>: Sendable {
    private let kept: Mutex<Value>
    init(_ value: Value) { kept = Mutex(value) }
    var value: Value { kept.withLock { $0 } }
    func change(_ body: (inout Value) -> Void) { kept.withLock { body(&$0) } }
  }
}
