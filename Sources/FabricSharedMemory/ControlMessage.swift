import FabricPlatform
import FabricVerbs
import FabricWire

/// What two sides tell each other over their socket, one datagram each, little-endian.
///
/// | Kind | Fields behind `kind` u8, `version` u8, `count` u16, `magic` u32 | Descriptors |
/// |---|---|---|
/// | hello, welcome | segment address u64, bytes u32, lines u32, flags u32 (bit 0: direct), queue pair u32, private data (`count`) | segment |
/// | reject | (24 bytes unused), private data (`count`) | |
/// | segment | address u64, bytes u64, use u32 | memory |
/// | withdraw | address u64 | |
/// | goodbye | | |
/// | doorbell | a single byte, the kind | |
enum ControlMessage: Equatable {
  case hello(Opening)
  case welcome(Opening)
  case reject([UInt8])
  case segment(address: UInt64, byteCount: UInt64, use: SegmentUse)
  case withdraw(address: UInt64)
  case goodbye
  case doorbell

  /// Whether a listener may send it before or as its answer to a hello.
  var mayAnswer: Bool {
    switch self {
    case .welcome, .reject, .doorbell: true
    case .hello, .segment, .withdraw, .goodbye: false
    }
  }

  /// What the receiver of a segment does with it.
  enum SegmentUse: UInt32 {
    /// Reads it.
    case readable = 0
    /// Writes to it, within what the owner's keys allow.
    case writable = 1
    /// Reads the owner's remote keys in it.
    case keys = 2
  }

  /// How one side's queue segment is to be mapped.
  struct Opening: Equatable {
    var segmentAddress: UInt64
    var segmentByteCount: Int
    var lineCount: Int
    /// Whether the sender would let its peer write to its memory.
    var isDirect: Bool
    /// The sender's queue pair, as its keys name it.
    var queuePairNumber: UInt32
    var privateData: [UInt8]
  }

  /// Why a datagram is not a message.
  enum Malformed: Error, Equatable {
    case notThisProtocol
    case version(UInt8)
    case fields
  }

  static let version: UInt8 = 1
  static let magic: UInt32 = 0x4d53_4643  // "CFSM"
  static let headerByteCount = 32
  static let maximumPrivateDataByteCount = 512
  static let maximumByteCount = headerByteCount + maximumPrivateDataByteCount
  /// Lines of a ring that a peer may have; bounds what it makes this side map.
  static let lineCounts = 8...(1 << 20)

  private var kind: UInt8 {
    switch self {
    case .hello: 1
    case .welcome: 2
    case .reject: 3
    case .segment: 4
    case .withdraw: 5
    case .goodbye: 6
    case .doorbell: 7
    }
  }

  /// The datagram's bytes.
  var bytes: [UInt8] {
    if self == .doorbell { return [kind] }
    var bytes = [UInt8](repeating: 0, count: Self.headerByteCount)
    unsafe bytes.withUnsafeMutableBytes { raw in
      let buffer = unsafe WireBuffer(raw)
      buffer.set(kind, at: 0)
      buffer.set(Self.version, at: 1)
      buffer.set(UInt16(privateData.count), at: 2)
      buffer.set(Self.magic, at: 4)
      switch self {
      case .hello(let opening), .welcome(let opening):
        buffer.set(opening.segmentAddress, at: 8)
        buffer.set(UInt32(opening.segmentByteCount), at: 16)
        buffer.set(UInt32(opening.lineCount), at: 20)
        buffer.set(UInt32(opening.isDirect ? 1 : 0), at: 24)
        buffer.set(opening.queuePairNumber, at: 28)
      case .segment(let address, let byteCount, let use):
        buffer.set(address, at: 8)
        buffer.set(byteCount, at: 16)
        buffer.set(use.rawValue, at: 24)
      case .withdraw(let address):
        buffer.set(address, at: 8)
      case .reject, .goodbye, .doorbell: break
      }
    }
    return bytes + privateData
  }

  private var privateData: [UInt8] {
    switch self {
    case .hello(let opening), .welcome(let opening): opening.privateData
    case .reject(let data): data
    default: []
    }
  }

  /// Reads a datagram from a peer that is not trusted.
  init(_ view: WireView) throws(Malformed) {
    if view.byteCount == 1, view.uint8(at: 0) == 7 {
      self = .doorbell
      return
    }
    guard view.byteCount >= Self.headerByteCount, view.uint32(at: 4) == Self.magic else {
      throw .notThisProtocol
    }
    // A reject reads the same in every version, so that it can say which is wanted.
    guard view.uint8(at: 1) == Self.version || view.uint8(at: 0) == 3 else {
      throw .version(view.uint8(at: 1))
    }
    let count = Int(view.uint16(at: 2))
    guard count == view.byteCount - Self.headerByteCount,
      count <= Self.maximumPrivateDataByteCount
    else { throw .fields }
    let data = view.slice(Self.headerByteCount, count).array
    switch view.uint8(at: 0) {
    case 1: self = .hello(try Self.opening(view, data))
    case 2: self = .welcome(try Self.opening(view, data))
    case 3: self = .reject(data)
    case 4:
      guard let use = SegmentUse(rawValue: view.uint32(at: 24)) else { throw .fields }
      self = .segment(address: view.uint64(at: 8), byteCount: view.uint64(at: 16), use: use)
    case 5: self = .withdraw(address: view.uint64(at: 8))
    case 6: self = .goodbye
    default: throw .fields
    }
  }

  private static func opening(_ view: WireView, _ data: [UInt8]) throws(Malformed) -> Opening {
    let lineCount = Int(view.uint32(at: 20))
    let byteCount = Int(view.uint32(at: 16))
    guard lineCounts.contains(lineCount), lineCount & (lineCount - 1) == 0,
      byteCount == QueueSegment.byteCount(lineCount: lineCount)
    else { throw .fields }
    return Opening(
      segmentAddress: view.uint64(at: 8), segmentByteCount: byteCount, lineCount: lineCount,
      isDirect: view.uint32(at: 24) & 1 != 0, queuePairNumber: view.uint32(at: 28),
      privateData: data)
  }
}
