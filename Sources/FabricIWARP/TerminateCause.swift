/// Why a connection is ended, as a terminate message says it.
///
/// Sources: RFC 5040 section 4.8, RFC 5041 section 8, RFC 5044 section 8, and RFC 6581, which adds
/// codes 5 to 7 to MPA's.
public struct TerminateCause: Hashable, Sendable {
  /// Who found the fault: 0 RDMAP, 1 DDP, 2 MPA.
  public let layer: UInt8
  public let type: UInt8
  public let code: UInt8

  /// - Parameters: `layer` and `type` have 4 bits.
  public init(layer: UInt8, type: UInt8, code: UInt8) {
    precondition(layer < 16 && type < 16, "4 bits each")
    self.layer = layer
    self.type = type
    self.code = code
  }

  /// Faults that RDMAP finds.
  public enum RDMAP {
    public static let localCatastrophe = TerminateCause(layer: 0, type: 0, code: 0)
    public static let invalidKey = TerminateCause(layer: 0, type: 1, code: 0)
    public static let outOfBounds = TerminateCause(layer: 0, type: 1, code: 1)
    public static let noRight = TerminateCause(layer: 0, type: 1, code: 2)
    public static let keyOfAnotherConnection = TerminateCause(layer: 0, type: 1, code: 3)
    public static let offsetWraps = TerminateCause(layer: 0, type: 1, code: 4)
    public static let keyNotToBeInvalidated = TerminateCause(layer: 0, type: 1, code: 9)
    public static let unspecifiedProtection = TerminateCause(layer: 0, type: 1, code: 0xff)
    public static let version = TerminateCause(layer: 0, type: 2, code: 5)
    public static let unexpectedOpcode = TerminateCause(layer: 0, type: 2, code: 6)
    public static let streamCatastrophe = TerminateCause(layer: 0, type: 2, code: 7)
    public static let globalCatastrophe = TerminateCause(layer: 0, type: 2, code: 8)
    public static let unspecifiedOperation = TerminateCause(layer: 0, type: 2, code: 0xff)
  }

  /// Faults that DDP finds.
  public enum DDP {
    public static let localCatastrophe = TerminateCause(layer: 1, type: 0, code: 0)
    public static let invalidKey = TerminateCause(layer: 1, type: 1, code: 0)
    public static let outOfBounds = TerminateCause(layer: 1, type: 1, code: 1)
    public static let keyOfAnotherConnection = TerminateCause(layer: 1, type: 1, code: 2)
    public static let offsetWraps = TerminateCause(layer: 1, type: 1, code: 3)
    public static let taggedVersion = TerminateCause(layer: 1, type: 1, code: 4)
    public static let invalidQueue = TerminateCause(layer: 1, type: 2, code: 1)
    public static let noReceive = TerminateCause(layer: 1, type: 2, code: 2)
    public static let sequenceOutOfRange = TerminateCause(layer: 1, type: 2, code: 3)
    public static let invalidOffset = TerminateCause(layer: 1, type: 2, code: 4)
    public static let messageTooLong = TerminateCause(layer: 1, type: 2, code: 5)
    public static let untaggedVersion = TerminateCause(layer: 1, type: 2, code: 6)
  }

  /// Faults that MPA finds.
  public enum MPA {
    public static let streamLost = TerminateCause(layer: 2, type: 0, code: 1)
    public static let checksum = TerminateCause(layer: 2, type: 0, code: 2)
    public static let marker = TerminateCause(layer: 2, type: 0, code: 3)
    public static let startFrame = TerminateCause(layer: 2, type: 0, code: 4)
    public static let localCatastrophe = TerminateCause(layer: 2, type: 0, code: 5)
    public static let tooFewInboundReads = TerminateCause(layer: 2, type: 0, code: 6)
    public static let noReadyToReceive = TerminateCause(layer: 2, type: 0, code: 7)
  }
}
