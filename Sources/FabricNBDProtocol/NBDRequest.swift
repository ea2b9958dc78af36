package import FabricStorage
package import FabricWire

/// A request of the transmission phase, as it came. Plain data.
package struct NBDRequest: BitwiseCopyable {
  package var flags: NBD.CommandFlags
  package var type: UInt16
  /// The client's, who gets it back.
  package var cookie: UInt64
  package var offset: UInt64
  package var length: UInt32

  /// Reads the 28 bytes of a request; nil when the magic number is another's. (NB-21)
  package init?(_ bytes: WireView) {
    guard bytes.big32(at: 0) == NBD.requestMagic else { return nil }
    flags = NBD.CommandFlags(rawValue: bytes.big16(at: 4))
    type = bytes.big16(at: 6)
    cookie = bytes.big64(at: 8)
    offset = bytes.big64(at: 16)
    length = bytes.big32(at: 24)
  }

  package var command: NBD.Command? { NBD.Command(rawValue: type) }

  /// Bytes of payload behind the request, whether it is carried out or refused.
  package var payloadByteCount: Int { type == NBD.Command.write.rawValue ? Int(length) : 0 }

  /// Why the request cannot be carried out; nil: it can. (NB-22 to NB-28)
  package func refusal(under rules: NBDRules) -> NBD.ErrorCode? {
    guard let command else { return .invalid }
    guard flags.subtracting(allowedFlags(of: command, rules)).isEmpty else { return .invalid }
    switch command {
    case .disconnect: return nil
    case .flush: return offset == 0 && length == 0 ? nil : .invalid
    case .write, .trim, .writeZeroes: if rules.isReadOnly { return .notPermitted }
    case .blockStatus: if !rules.hasAllocationContext { return .invalid }
    case .read, .cache: break
    }
    guard length > 0 else { return .invalid }
    let end = offset.addingReportingOverflow(UInt64(length))
    guard !end.overflow, end.partialValue <= rules.byteCount else {
      return command == .write || command == .writeZeroes ? .noSpace : .invalid
    }
    guard (offset | UInt64(length)) & rules.blockMask == 0 else { return .invalid }
    if command == .read || command == .write, length > NBD.maximumPayloadByteCount {
      return .invalid
    }
    return nil
  }

  private func allowedFlags(
    of command: NBD.Command, _ rules: NBDRules
  ) -> NBD.CommandFlags {
    switch command {
    case .read:
      rules.hasStructuredReplies ? .ofReads : .forceUnitAccess
    case .writeZeroes: .ofZeroes
    case .blockStatus: .ofStatus
    case .write, .disconnect, .flush, .trim, .cache: .forceUnitAccess
    }
  }
}

extension NBD.ErrorCode {
  /// What a client is told of a request that ended so; nil: it succeeded. (NB-29)
  package init?(_ status: BlockStatus) {
    switch status {
    case .success: return nil
    case .invalidField, .lbaOutOfRange, .compareFailure: self = .invalid
    case .readOnly: self = .notPermitted
    case .capacityExceeded: self = .noSpace
    case .unsupported: self = .notSupported
    case .aborted: self = .shutdown
    case .mediaReadError, .mediaWriteError, .flushFailed, .internalError: self = .inputOutput
    }
  }
}
