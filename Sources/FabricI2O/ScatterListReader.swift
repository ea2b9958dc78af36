import FabricBounded
import FabricWire

/// Goes through a scatter list. Every word of it is read once: what was checked is what is used, also
/// where a peer goes on writing to the data that came with the frame. (IT-30 to IT-35)
struct ScatterListReader {
  /// What the list of a request is for.
  enum Purpose {
    /// Names memory of the host that is written to.
    case toHost
    /// Names pieces of the data that came with the frame.
    case fromHost
  }

  /// The next thing in a list.
  enum Item {
    case element(ScatterElement)
    /// Bytes that lie in the frame itself.
    case immediate(offset: Int, byteCount: Int)
  }

  private let attached: WireView?
  private let purpose: Purpose
  /// The frame, or what a chain pointer led to.
  private var segment: WireView
  private var offset: Int
  /// In the frame: what is told of a fault behind a chain pointer.
  private var chainOffset: Int?
  private var isWide = false
  private var isAtStart = true
  private var listedCount = 0
  private(set) var isAtEnd = false

  /// - Parameters:
  ///   - frame: all of it.
  ///   - start: where in it the list begins.
  ///   - attached: the data that came with it.
  init(_ frame: WireView, from start: Int, attached: WireView?, purpose: Purpose) {
    segment = frame
    offset = start
    self.attached = attached
    self.purpose = purpose
  }

  private func fault(_ status: I2O.DetailedStatus = .invalidParameter) -> MessageFault {
    MessageFault(status, at: chainOffset ?? offset)
  }

  /// The next element; nil behind the one that is marked as the last.
  mutating func next() throws(MessageFault) -> Item? {
    while !isAtEnd {
      guard listedCount < I2O.maximumListedElementCount else { throw fault(.chainBufferTooLarge) }
      listedCount += 1
      guard offset <= segment.byteCount - 4 else { throw fault(.missingParameter) }
      let word = segment.uint32(at: offset)
      let flags = word >> 24
      let count = word & ScatterFlags.maximumCount
      let wasAtStart = isAtStart
      isAtStart = false
      if flags & (ScatterFlags.kindMask | ScatterFlags.endOfBuffer) == ScatterFlags.attributes {
        guard wasAtStart else { throw fault() }
        try takeAttributes(word)
        continue
      }
      let isLast = flags & ScatterFlags.last != 0
      let kind = flags & ScatterFlags.kindMask
      if kind == ScatterFlags.chain | ScatterFlags.local, !isLast {
        try follow(flags, byteCount: count)
        continue
      }
      if let item = try take(kind, flags, count) {
        isAtEnd = isLast
        return item
      }
      isAtEnd = isLast
    }
    return nil
  }

  /// (IT-31)
  private mutating func takeAttributes(_ word: UInt32) throws(MessageFault) {
    guard word >> 31 == 0, word & 0xFF_0000 == 2 << 16, word & 0xFFFF == ScatterFlags.wideAddresses,
      offset <= segment.byteCount - ScatterListWriter.attributesByteCount
    else { throw fault() }
    isWide = true
    offset += ScatterListWriter.attributesByteCount
  }

  /// An element that is no pointer; nil for one that says nothing.
  private mutating func take(
    _ kind: UInt32, _ flags: UInt32, _ count: UInt32
  ) throws(MessageFault) -> Item? {
    switch kind {
    case 0:
      // Bytes of the list that are to be passed over. (IT-33)
      let isWhole = count % 4 == 0 && Int(count) <= segment.byteCount - offset - 4
      guard flags & ScatterFlags.contextMask == 0, isWhole else { throw fault() }
      offset += 4 + Int(count)
      return nil
    case ScatterFlags.bitBucket:
      guard purpose == .toHost else { throw fault() }
      let contextByteCount = 4 * Int(flags & ScatterFlags.contextMask)
      guard contextByteCount <= segment.byteCount - offset - 4 else {
        throw fault(.missingParameter)
      }
      offset += 4 + contextByteCount
      return .element(ScatterElement(.nowhere, byteCount: count))
    case ScatterFlags.immediate:
      let padded = (Int(count) + 3) & ~3
      guard chainOffset == nil, flags & ScatterFlags.contextMask == 0,
        padded <= segment.byteCount - offset - 4
      else { throw fault() }
      let start = offset + 4
      offset = start + padded
      return .immediate(offset: start, byteCount: Int(count))
    case ScatterFlags.simple..<ScatterFlags.simple + 0x10:
      return .element(try takeSimple(flags, count))
    default:
      throw fault()
    }
  }

  private mutating func takeSimple(
    _ flags: UInt32, _ count: UInt32
  ) throws(MessageFault) -> ScatterElement {
    let start = offset
    let (handle, address) = try takeAddress(flags)
    let isOut = flags & ScatterFlags.out != 0
    let isLocal = flags & ScatterFlags.local != 0
    switch purpose {
    case .toHost:
      // Without a handle no memory of the host can be reached. (IT-32)
      guard !isOut, !isLocal, let handle,
        !address.addingReportingOverflow(UInt64(count)).overflow
      else { throw MessageFault(.invalidParameter, at: chainOffset ?? start) }
      return ScatterElement(.host, address: address, byteCount: count, handle: handle)
    case .fromHost:
      let limit = UInt64(attached?.byteCount ?? 0)
      guard isOut, isLocal, handle ?? 0 == 0, address <= limit, UInt64(count) <= limit - address
      else { throw MessageFault(.invalidParameter, at: chainOffset ?? start) }
      return ScatterElement(.attached, address: address, byteCount: count)
    }
  }

  /// Reads what follows an element's first word, and passes over it.
  private mutating func takeAddress(
    _ flags: UInt32
  ) throws(MessageFault) -> (handle: UInt32?, address: UInt64) {
    let context = flags & ScatterFlags.contextMask
    guard context <= 1 else { throw fault() }
    let byteCount = 4 + 4 * Int(context) + (isWide ? 8 : 4)
    guard byteCount <= segment.byteCount - offset else { throw fault(.missingParameter) }
    let handle = context == 1 ? segment.uint32(at: offset + 4) : nil
    let place = offset + 4 + 4 * Int(context)
    let address = isWide ? segment.uint64(at: place) : UInt64(segment.uint32(at: place))
    offset += byteCount
    return (handle, address)
  }

  /// Goes on where a chain pointer leads: in the data that came with the frame. (IT-34)
  private mutating func follow(_ flags: UInt32, byteCount: UInt32) throws(MessageFault) {
    let start = chainOffset ?? offset
    let (handle, address) = try takeAddress(flags)
    guard let attached, handle ?? 0 == 0, byteCount % 4 == 0, address % 4 == 0,
      address <= UInt64(attached.byteCount),
      UInt64(byteCount) <= UInt64(attached.byteCount) - address
    else { throw MessageFault(.invalidParameter, at: start) }
    segment = attached.slice(Int(address), Int(byteCount))
    offset = 0
    chainOffset = start
  }
}

extension ScatterListReader {
  /// What a whole list says.
  struct Summary: BitwiseCopyable {
    /// Elements in the table: those of no bytes are left out.
    var elementCount = 0
    var byteCount: UInt64 = 0
  }

  /// Reads all of a list of elements into `table`, from `first` on.
  mutating func readAll(
    into table: FixedTable<ScatterElement>, from first: Int
  ) throws(MessageFault) -> Summary {
    var summary = Summary()
    while true {
      let place = chainOffset ?? offset
      guard let item = try next() else { return summary }
      guard case .element(let element) = item else {
        throw MessageFault(.invalidParameter, at: place)
      }
      if element.byteCount == 0 { continue }
      guard summary.elementCount < I2O.maximumElementCount else {
        throw MessageFault(.chainBufferTooLarge, at: place)
      }
      table[first + summary.elementCount] = element
      summary.elementCount += 1
      summary.byteCount += UInt64(element.byteCount)
    }
  }
}
