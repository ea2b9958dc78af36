/// How a request ended.
public enum BlockStatus: UInt8, Error, BitwiseCopyable, CaseIterable, Sendable {
  /// Done.
  case success
  /// A field of the request makes no sense, such as a byte count that is not its blocks'.
  case invalidField
  /// The blocks do not all lie inside the volume.
  case lbaOutOfRange
  /// The volume, or this way to it, may only be read.
  case readOnly
  /// Stored data cannot be read back.
  case mediaReadError
  /// The store could not write.
  case mediaWriteError
  /// The blocks hold something else than the buffer.
  case compareFailure
  /// The store has no room for the data.
  case capacityExceeded
  /// Earlier writes may not have reached the disk.
  case flushFailed
  /// Given up before it was handed to the store, or cancelled there.
  case aborted
  /// The store does not know how to do it.
  case unsupported
  /// Something unforeseen on the unit.
  case internalError

  /// For people.
  public var explanation: String {
    switch self {
    case .success: "success"
    case .invalidField: "the request is malformed; nothing was done"
    case .lbaOutOfRange: "the blocks lie outside the volume; nothing was done"
    case .readOnly: "the volume may only be read, here or by this host; nothing was done"
    case .mediaReadError: "the medium cannot give back what was stored there; write it again"
    case .mediaWriteError: "the medium refused the data; the blocks may hold old, new or mixed data"
    case .compareFailure: "the blocks hold something else than what they were compared with"
    case .capacityExceeded:
      "the disk under the volume is full, or its file may not grow; make room and write again"
    case .flushFailed:
      "data written since the last flush may not be on the disk; write it again, then flush"
    case .aborted: "the request was given up; send it again"
    case .unsupported: "the store cannot do this"
    case .internalError: "the I/O unit failed; its log says how"
    }
  }

  /// The case of that name, as fault plans write it.
  init?(name: Substring) {
    guard let status = Self.allCases.first(where: { "\($0)" == name }) else { return nil }
    self = status
  }
}
