public import FabricVerbs
public import FabricWire

/// A piece of a transfer, from a scatter list. (IT-30 to IT-33)
public struct ScatterElement: Equatable, Sendable, BitwiseCopyable {
  public enum Place: UInt8, Sendable, BitwiseCopyable {
    /// At the host, named by address and memory handle.
    case host
    /// In the data that came with the frame; the address is an offset there.
    case attached
    /// Nowhere: these bytes of a read are left out.
    case nowhere
  }

  public var address: UInt64
  public var byteCount: UInt32
  /// The remote key; 0 unless the piece is at the host.
  public var handle: UInt32
  public var place: Place

  @inlinable
  public init(_ place: Place, address: UInt64 = 0, byteCount: UInt32, handle: UInt32 = 0) {
    self.place = place
    self.address = address
    self.byteCount = byteCount
    self.handle = handle
  }

  /// A piece at the host.
  @inlinable
  public init(at address: UInt64, byteCount: UInt32, key: RemoteKey) {
    self.init(.host, address: address, byteCount: byteCount, handle: key.rawValue)
  }
}

/// Writes scatter lists, for hosts and tests.
public struct ScatterListWriter {
  /// Bytes of the attributes that open a list of 64-bit addresses, and of an element there.
  public static let attributesByteCount = 8
  public static let elementByteCount = 16

  private let buffer: WireBuffer
  /// Bytes written so far.
  public private(set) var byteCount = 0

  @inlinable
  public init(_ buffer: WireBuffer) { self.init(over: buffer) }

  @usableFromInline
  init(over buffer: WireBuffer) { self.buffer = buffer }

  /// Says that addresses have 64 bits. (IT-31)
  public mutating func attributes() {
    buffer.set(ScatterFlags.attributes << 24 | 2 << 16 | ScatterFlags.wideAddresses, at: byteCount)
    buffer.set(4096 as UInt32, at: byteCount + 4)
    byteCount += Self.attributesByteCount
  }

  /// - Parameters:
  ///   - isOut: the data goes from the host to the device.
  ///   - isLast: no element follows.
  public mutating func append(_ element: ScatterElement, isOut: Bool, isLast: Bool) {
    precondition(element.byteCount <= ScatterFlags.maximumCount, "a count has 24 bits")
    var flags: UInt32 = isOut ? ScatterFlags.out : 0
    if isLast { flags |= ScatterFlags.last | ScatterFlags.endOfBuffer }
    if element.place == .nowhere {
      buffer.set((flags | ScatterFlags.bitBucket) << 24 | element.byteCount, at: byteCount)
      byteCount += 4
      return
    }
    flags |= ScatterFlags.simple | ScatterFlags.context
    if element.place == .attached { flags |= ScatterFlags.local }
    appendAddress(flags, element)
  }

  /// Bytes that lie in the frame itself, as a buffer of their own. (IT-50)
  public mutating func immediate(_ bytes: [UInt8]) {
    let flags = ScatterFlags.immediate | ScatterFlags.endOfBuffer
    buffer.set(flags << 24 | UInt32(bytes.count), at: byteCount)
    buffer.copy(bytes, at: byteCount + 4)
    byteCount += 4 + (bytes.count + 3) & ~3
  }

  /// The list goes on in the data that comes with the frame: `byteCount` bytes from `offset`.
  /// (IT-34)
  public mutating func chain(to offset: UInt64, byteCount count: UInt32) {
    appendAddress(
      ScatterFlags.chain | ScatterFlags.local | ScatterFlags.context,
      ScatterElement(.attached, address: offset, byteCount: count))
  }

  private mutating func appendAddress(_ flags: UInt32, _ element: ScatterElement) {
    buffer.set(flags << 24 | element.byteCount, at: byteCount)
    buffer.set(element.handle, at: byteCount + 4)
    buffer.set(element.address, at: byteCount + 8)
    byteCount += Self.elementByteCount
  }
}

/// The high byte of an element's first word, and the attributes' low half.
enum ScatterFlags {
  static let last: UInt32 = 0x80
  static let endOfBuffer: UInt32 = 0x40
  /// Of these bits is the kind.
  static let kindMask: UInt32 = 0x3C
  static let bitBucket: UInt32 = 0x08
  static let immediate: UInt32 = 0x0C
  static let simple: UInt32 = 0x10
  static let chain: UInt32 = 0x30
  static let attributes: UInt32 = 0x7C
  static let out: UInt32 = 0x04
  static let local: UInt32 = 0x08
  /// One word of context, which is the memory handle.
  static let context: UInt32 = 0x01
  static let contextMask: UInt32 = 0x03
  static let wideAddresses: UInt32 = 0x0002
  static let maximumCount: UInt32 = 0xFF_FFFF
}
