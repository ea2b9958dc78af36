extension TerminateCause: CustomStringConvertible {
  private static let words: [TerminateCause: String] = [
    RDMAP.localCatastrophe: "a catastrophe at the peer",
    RDMAP.invalidKey: "a steering tag that does not exist",
    RDMAP.outOfBounds: "a range outside the steering tag's",
    RDMAP.noRight: "an access that the steering tag does not allow",
    RDMAP.keyOfAnotherConnection: "a steering tag of another connection",
    RDMAP.offsetWraps: "a range that wraps",
    RDMAP.keyNotToBeInvalidated: "a steering tag that may not be invalidated",
    RDMAP.unspecifiedProtection: "a fault of protection",
    RDMAP.version: "another version",
    RDMAP.unexpectedOpcode: "an operation out of place",
    RDMAP.streamCatastrophe: "a catastrophe of the stream",
    RDMAP.globalCatastrophe: "a catastrophe of the adapter",
    RDMAP.unspecifiedOperation: "a malformed operation",
    DDP.localCatastrophe: "a catastrophe at the peer",
    DDP.invalidKey: "a steering tag that does not exist",
    DDP.outOfBounds: "a range outside the steering tag's",
    DDP.keyOfAnotherConnection: "a steering tag of another connection",
    DDP.offsetWraps: "a range that wraps",
    DDP.taggedVersion: "another version in a tagged segment",
    DDP.invalidQueue: "a queue that does not exist",
    DDP.noReceive: "a message that no receive was posted for",
    DDP.sequenceOutOfRange: "a message out of sequence",
    DDP.invalidOffset: "a segment out of place in its message",
    DDP.messageTooLong: "a message longer than the receive",
    DDP.untaggedVersion: "another version in an untagged segment",
    MPA.streamLost: "the loss of the stream",
    MPA.checksum: "a checksum that does not match",
    MPA.marker: "a marker that does not point to its FPDU",
    MPA.startFrame: "a malformed start frame",
    MPA.localCatastrophe: "a catastrophe at the peer",
    MPA.tooFewInboundReads: "too few RDMA reads at a time",
    MPA.noReadyToReceive: "no frame that opens the connection",
  ]

  /// The layer and what it found, for a log.
  public var description: String {
    let name =
      ["RDMAP", "DDP", "MPA"].indices.contains(Int(layer))
      ? ["RDMAP", "DDP", "MPA"][Int(layer)] : "layer \(layer)"
    return "\(name): \(Self.words[self] ?? "fault \(type).\(code)")"
  }

  /// Whether a key, its bounds or its rights are at fault.
  public var isProtectionFault: Bool { layer <= 1 && type == 1 }
}
