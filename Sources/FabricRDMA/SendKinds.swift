import CFabricVerbs
import FabricVerbs

/// What a queue pair has to know of a request before it is handed over, for each opcode with and
/// without its bytes inline: found with one look instead of asked for one by one.
struct SendKinds {
  struct Kind: BitwiseCopyable {
    /// Less than no bytes where there is no such request.
    var maximumByteCount: Int
    var opcode: ibv_wr_opcode

    var isSupported: Bool { maximumByteCount >= 0 }
  }

  private var kinds: InlineArray<16, Kind>

  init(of device: OpenDevice) {
    kinds = InlineArray(repeating: Kind(maximumByteCount: -1, opcode: IBV_WR_SEND))
    for opcode in SendOpcode.allCases {
      if device.isIWARP && opcode.hasImmediate { continue }
      kinds[Self.index(opcode.rawValue, 0)] = Kind(
        maximumByteCount: device.maximumMessageByteCount, opcode: opcode.verbs)
      if opcode == .read { continue }
      kinds[Self.index(opcode.rawValue, SendFlags.inline.rawValue)] = Kind(
        maximumByteCount: device.maximumInlineByteCount, opcode: opcode.verbs)
    }
  }

  /// Three bits of the opcode, and the flag's, which is the fourth.
  @inline(__always)
  private static func index(_ opcode: UInt8, _ flags: UInt8) -> Int {
    Int(opcode & 7 | flags & SendFlags.inline.rawValue)
  }

  @inline(__always)
  subscript(request: UnsafePointer<SendRequest>) -> Kind {
    unsafe kinds[Self.index(request.pointee.opcode.rawValue, request.pointee.flags.rawValue)]
  }

  subscript(opcode: SendOpcode, isInline isInline: Bool) -> Kind {
    kinds[Self.index(opcode.rawValue, isInline ? SendFlags.inline.rawValue : 0)]
  }
}

extension SendOpcode {
  fileprivate var hasImmediate: Bool { self == .sendWithImmediate || self == .writeWithImmediate }

  fileprivate var verbs: ibv_wr_opcode {
    switch self {
    case .send: IBV_WR_SEND
    case .sendWithImmediate: IBV_WR_SEND_WITH_IMM
    case .write: IBV_WR_RDMA_WRITE
    case .writeWithImmediate: IBV_WR_RDMA_WRITE_WITH_IMM
    case .read: IBV_WR_RDMA_READ
    }
  }
}
