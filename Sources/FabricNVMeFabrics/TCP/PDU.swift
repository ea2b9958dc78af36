public import FabricWire

/// Protocol data units of NVMe/TCP: their types, sizes and flags. (NVMe/TCP Transport 1.0, section 3.6)
public enum PDU {
  public enum Kind: UInt8, Sendable {
    case initializeRequest = 0x00
    case initializeResponse = 0x01
    case hostTerminate = 0x02
    case controllerTerminate = 0x03
    case command = 0x04
    case response = 0x05
    case hostData = 0x06
    case controllerData = 0x07
    case readyToTransfer = 0x09
  }

  public struct Flags: OptionSet, Sendable, BitwiseCopyable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// A digest follows the header.
    public static let headerDigest = Flags(rawValue: 1)
    /// A digest follows the data.
    public static let dataDigest = Flags(rawValue: 2)
    /// The last of a command, or of a request to transfer.
    public static let last = Flags(rawValue: 4)
    /// Data that is its command's good end as well: no response follows.
    public static let success = Flags(rawValue: 8)
    /// Both: a list of them would be made for each command.
    static let lastAndSuccess = Flags(rawValue: 12)
  }

  /// Of every PDU.
  public static let commonByteCount = 8
  public static let initializeByteCount = 128
  public static let commandByteCount = 72
  public static let responseByteCount = 24
  public static let dataByteCount = 24
  /// Without the header at fault that follows.
  public static let terminateByteCount = 24
  public static let digestByteCount = 4

  /// What every PDU begins with.
  public struct Common: Equatable, Sendable, BitwiseCopyable {
    /// As it came: perhaps none that there is.
    public var kind: UInt8
    public var flags: Flags
    public var headerByteCount: UInt8
    /// Where the data is, from the PDU's first byte; 0: nowhere.
    public var dataOffset: UInt8
    /// Of all of it, digests and padding too.
    public var byteCount: UInt32

    public init(
      _ kind: Kind, flags: Flags = [], headerByteCount: Int, dataOffset: Int = 0, byteCount: Int
    ) {
      self.kind = kind.rawValue
      self.flags = flags
      self.headerByteCount = UInt8(truncatingIfNeeded: headerByteCount)
      self.dataOffset = UInt8(truncatingIfNeeded: dataOffset)
      self.byteCount = UInt32(truncatingIfNeeded: byteCount)
    }

    /// Traps when `view` is shorter than `commonByteCount`.
    @inline(__always)
    public init(_ view: WireView) {
      kind = view.uint8(at: 0)
      flags = Flags(rawValue: view.uint8(at: 1))
      headerByteCount = view.uint8(at: 2)
      dataOffset = view.uint8(at: 3)
      byteCount = view.uint32(at: 4)
    }

    @inline(__always)
    public func encode(into buffer: WireBuffer) {
      buffer.set(kind, at: 0)
      buffer.set(flags.rawValue, at: 1)
      buffer.set(headerByteCount, at: 2)
      buffer.set(dataOffset, at: 3)
      buffer.set(byteCount, at: 4)
    }
  }

  /// What H2CData, C2HData and R2T have behind the common part.
  public struct Transfer: Equatable, Sendable, BitwiseCopyable {
    /// Of the command.
    public var command: UInt16
    /// The controller's name for a request to transfer; reserved in C2HData.
    public var tag: UInt16
    public var offset: UInt32
    public var byteCount: UInt32

    public init(command: UInt16, tag: UInt16, offset: UInt32, byteCount: UInt32) {
      self.command = command
      self.tag = tag
      self.offset = offset
      self.byteCount = byteCount
    }

    @inline(__always)
    public init(_ view: WireView) {
      command = view.uint16(at: 8)
      tag = view.uint16(at: 10)
      offset = view.uint32(at: 12)
      byteCount = view.uint32(at: 16)
    }

    @inline(__always)
    public func encode(into buffer: WireBuffer) {
      buffer.set(command, at: 8)
      buffer.set(tag, at: 10)
      buffer.set(offset, at: 12)
      buffer.set(byteCount, at: 16)
      buffer.set(UInt32(0), at: 20)
    }
  }

  /// Both sides' limits. (Section 3.6.2.1 and 3.6.2.2)
  public struct Initialize: Equatable, Sendable {
    public var version: UInt16 = 0
    /// What the sender wants the other side's data aligned to: dwords, one less.
    public var alignment: UInt8 = 0
    public var usesHeaderDigest = false
    public var usesDataDigest = false
    /// Of a request: requests to transfer of one command at once, one less. Of a response: bytes of
    /// one H2CData PDU.
    public var limit: UInt32 = 0

    public init() {}

    public init(_ view: WireView) {
      version = view.uint16(at: 8)
      alignment = view.uint8(at: 10)
      usesHeaderDigest = view.uint8(at: 11) & 1 != 0
      usesDataDigest = view.uint8(at: 11) & 2 != 0
      limit = view.uint32(at: 12)
    }

    public func encode(_ kind: Kind, into buffer: WireBuffer) {
      buffer.slice(0, initializeByteCount).clear()
      Common(kind, headerByteCount: initializeByteCount, byteCount: initializeByteCount)
        .encode(into: buffer)
      buffer.set(version, at: 8)
      buffer.set(alignment, at: 10)
      buffer.set(UInt8(usesHeaderDigest ? 1 : 0) | (usesDataDigest ? 2 : 0), at: 11)
      buffer.set(limit, at: 12)
    }
  }
}

/// Why a connection is ended: what the other side did wrong. (Section 3.6.2.9)
public struct FatalError: Error, Equatable, Sendable {
  public enum Status: UInt16, Sendable {
    case invalidHeaderField = 1
    case sequenceError = 2
    case headerDigestError = 3
    case dataOutOfRange = 4
    case limitExceeded = 5
    case unsupportedParameter = 6
  }

  public var status: Status
  /// The offset of the field at fault, or the digest that came.
  public var information: UInt32
  /// For the log.
  public var words: String

  public init(_ status: Status, information: UInt32 = 0, _ words: String) {
    self.status = status
    self.information = information
    self.words = words
  }

  /// The PDU that says so.
  ///
  /// - Parameter header: of the PDU at fault, of which at most 128 bytes go along.
  public func encoded(_ kind: PDU.Kind, about header: [UInt8]) -> [UInt8] {
    let header = header.prefix(128)
    let count = PDU.terminateByteCount + header.count
    var bytes = [UInt8](repeating: 0, count: count)
    unsafe bytes.withUnsafeMutableBytes { raw in
      let buffer = unsafe WireBuffer(raw)
      PDU.Common(kind, headerByteCount: PDU.terminateByteCount, byteCount: count)
        .encode(into: buffer)
      buffer.set(status.rawValue, at: 8)
      buffer.set(information, at: 10)
      buffer.copy(Array(header), at: PDU.terminateByteCount)
    }
    return bytes
  }
}
