import CFabricLinux
import FabricIWARP
import FabricPlatform
import FabricWire

/// FPDUs that go out together: headers and small payloads side by side in memory that is lent to it
/// until they are out, large payloads where they lie, all in one system call.
///
/// Threads: under the queue pair's transmit lock.
@safe
final class OutputTrain {
  /// Payload bytes that a train carries, so that the first ones' ends are not long in coming.
  private static let byteLimit = 256 << 10
  /// Up to so many bytes a copy costs less than a piece of their own.
  private static let copyLimit = 512

  private var hasChecksums = false
  /// Markers go into the bytes themselves: such FPDUs are made whole, one by one.
  private var marked: FPDUWriter?
  /// Whether there is `marked`: asked for each segment, and a look at that costs a check of access.
  private var hasMarkers = false
  private let memory: TrainMemory
  /// Lent from the first FPDU on until the train is out.
  private var block: TrainMemory.Block?
  /// Of `block`, while there is one.
  private var scratch: UnsafeMutableRawPointer
  private var pieces: UnsafeMutablePointer<iovec>
  private var scratchCount = 0
  private var pieceCount = 0
  private var firstPiece = 0
  private var byteCount = 0
  /// The last piece lies in `scratch` and ends where that ends.
  private var endsInScratch = false

  /// - Parameter memory: lends what FPDUs are written to.
  init(memory: TrainMemory) {
    self.memory = memory
    let nowhere = unsafe Self.nowhere
    unsafe scratch = nowhere
    unsafe pieces = nowhere.assumingMemoryBound(to: iovec.self)
  }

  private static var nowhere: UnsafeMutableRawPointer { unsafe .init(bitPattern: 64)! }

  /// Takes what the start-up has agreed on; before the first segment.
  func begin(checksums: Bool, markers: Bool) {
    hasChecksums = checksums
    hasMarkers = markers
    marked = markers ? FPDUWriter(markers: true, checksums: checksums) : nil
  }

  deinit { reset() }

  /// Memory for the first FPDU.
  private func board() {
    let block = memory.take()
    self.block = block
    unsafe scratch = block.scratch
    unsafe pieces = block.pieces
  }

  var isEmpty: Bool { pieceCount == 0 }

  /// The longest payload of one segment.
  var segmentLimit: Int { hasMarkers ? 8192 : FPDUWriter.maximumSegmentByteCount }

  /// Whether a segment more may go along.
  var hasRoom: Bool {
    pieceCount + 4 <= TrainMemory.pieceLimit && byteCount < Self.byteLimit
      && scratchCount + (hasMarkers ? 9000 : 2 * Self.copyLimit + 64)
        <= TrainMemory.scratchByteCount
  }

  /// Adds the FPDU of one segment; there must be room.
  ///
  /// - Parameters:
  ///   - first, second: the payload; stays where it is until the train is out, unless it is short.
  ///   - header: written to the buffer it is given, of `headerByteCount` bytes.
  func append(
    headerByteCount: Int, _ first: Piece = Piece(), _ second: Piece = Piece(),
    header: (WireBuffer) -> Void
  ) {
    precondition(hasRoom, "the train is full")
    if block == nil { board() }
    if hasMarkers { return appendMarked(headerByteCount, first, second, header) }
    let segmentByteCount = headerByteCount + first.byteCount + second.byteCount
    let front = unsafe scratch + scratchCount
    let length = UInt16(truncatingIfNeeded: segmentByteCount).bigEndian
    unsafe front.storeBytes(of: length, as: UInt16.self)
    header(unsafe WireBuffer(front + 2, byteCount: headerByteCount))
    var count = 2 + headerByteCount
    if !hasChecksums && segmentByteCount <= Self.copyLimit && second.byteCount == 0 {
      return addShort(first, behind: count)
    }
    var checksum = Checksum()
    if hasChecksums {
      unsafe checksum.add(UnsafeRawBufferPointer(start: front, count: count))
    }
    addPayload(first, &count, &checksum)
    addPayload(second, &count, &checksum)
    addTrailer(behind: count, padding: -(2 + segmentByteCount) & 3, &checksum)
  }

  /// Copies a short payload without a checksum, and ends the FPDU.
  ///
  /// - Parameter count: bytes of `scratch` that do not go along yet.
  @inline(__always)
  private func addShort(_ payload: Piece, behind count: Int) {
    let place = unsafe scratch + scratchCount + count
    if payload.byteCount > 0,
      let source = unsafe UnsafeRawPointer(bitPattern: UInt(payload.address))
    {
      unsafe copyShort(to: place, from: source, byteCount: payload.byteCount)
    }
    let end = count &+ payload.byteCount
    let padding = -end & 3
    // Padding and checksum.
    unsafe (place + payload.byteCount).storeBytes(of: 0, as: UInt64.self)
    addScratch(end &+ padding &+ 4)
  }

  /// - Parameter count: bytes of `scratch` that do not go along yet.
  private func addPayload(_ piece: Piece, _ count: inout Int, _ checksum: inout Checksum) {
    guard piece.byteCount > 0,
      let source = unsafe UnsafeMutableRawPointer(bitPattern: UInt(piece.address))
    else { return }
    if hasChecksums {
      unsafe checksum.add(UnsafeRawBufferPointer(start: source, count: piece.byteCount))
    }
    if piece.byteCount <= Self.copyLimit {
      unsafe copyShort(
        to: scratch + scratchCount + count, from: source, byteCount: piece.byteCount)
      count += piece.byteCount
    } else {
      addScratch(count)
      unsafe addPiece(source, piece.byteCount)
      count = 0
    }
  }

  private func addTrailer(behind count: Int, padding: Int, _ checksum: inout Checksum) {
    let end = unsafe scratch + scratchCount + count
    unsafe end.storeBytes(of: 0, as: UInt32.self)
    if hasChecksums {
      unsafe checksum.add(UnsafeRawBufferPointer(start: end, count: padding))
    }
    // The sum goes out with its low byte first.
    let sum = hasChecksums ? checksum.value.littleEndian : 0
    unsafe (end + padding).storeBytes(of: sum, as: UInt32.self)
    addScratch(count + padding + 4)
  }

  /// The next `count` bytes of `scratch` go along.
  private func addScratch(_ count: Int) {
    if endsInScratch {
      unsafe pieces[pieceCount - 1].iov_len += count
    } else {
      unsafe pieces[pieceCount] = iovec(iov_base: scratch + scratchCount, iov_len: count)
      pieceCount += 1
      endsInScratch = true
    }
    scratchCount += count
    byteCount += count
  }

  private func addPiece(_ bytes: UnsafeMutableRawPointer, _ count: Int) {
    unsafe pieces[pieceCount] = iovec(iov_base: bytes, iov_len: count)
    pieceCount += 1
    endsInScratch = false
    byteCount += count
  }

  private func appendMarked(
    _ headerByteCount: Int, _ first: Piece, _ second: Piece, _ header: (WireBuffer) -> Void
  ) {
    var segment = [UInt8](repeating: 0, count: headerByteCount + 1)
    unsafe segment.withUnsafeMutableBytes { raw in
      header(unsafe WireBuffer(raw.baseAddress!, byteCount: headerByteCount))
    }
    segment.removeLast()
    for piece in [first, second] where piece.byteCount > 0 {
      unsafe segment.append(
        contentsOf: UnsafeRawBufferPointer(
          start: UnsafeRawPointer(bitPattern: UInt(piece.address)), count: piece.byteCount))
    }
    let count = segment.count
    // A byte behind, so that there is an address for no bytes at all.
    segment.append(0)
    var bytes: [UInt8] = []
    unsafe segment.withUnsafeBytes { raw in
      marked?.append(unsafe WireView(raw.baseAddress!, byteCount: count), to: &bytes)
    }
    unsafe bytes.withUnsafeBytes { raw in
      unsafe (scratch + scratchCount).copyMemory(from: raw.baseAddress!, byteCount: raw.count)
    }
    addScratch(bytes.count)
  }

  /// An FPDU without a segment.
  func appendEmpty() {
    precondition(hasRoom, "the train is full")
    if block == nil { board() }
    if hasMarkers { return appendMarked(0, Piece(), Piece(), { _ in }) }
    unsafe (scratch + scratchCount).storeBytes(of: 0, as: UInt16.self)
    var checksum = Checksum()
    if hasChecksums {
      unsafe checksum.add(UnsafeRawBufferPointer(start: scratch + scratchCount, count: 2))
    }
    addTrailer(behind: 2, padding: 2, &checksum)
  }

  /// Hands as much as possible to the socket.
  ///
  /// - Returns: `.bytes` once the train is out, and empty again.
  func send(over socket: StreamSocket.Handle) -> StreamSocket.Transfer {
    while firstPiece < pieceCount {
      switch unsafe socket.send(pieces + firstPiece, count: pieceCount - firstPiece) {
      case .bytes(let count): skip(count)
      case let other: return other
      }
    }
    let sent = byteCount
    reset()
    return .bytes(sent)
  }

  private func skip(_ count: Int) {
    var left = count
    while left > 0 {
      let piece = unsafe pieces[firstPiece]
      if unsafe left < piece.iov_len {
        unsafe pieces[firstPiece] = iovec(
          iov_base: piece.iov_base + left, iov_len: piece.iov_len - left)
        return
      }
      left -= unsafe piece.iov_len
      firstPiece += 1
    }
  }

  /// Forgets what is not out.
  func reset() {
    scratchCount = 0
    pieceCount = 0
    firstPiece = 0
    byteCount = 0
    endsInScratch = false
    guard let block else { return }
    self.block = nil
    memory.giveBack(block)
  }
}
