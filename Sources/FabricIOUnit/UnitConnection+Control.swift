import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import Glibc

/// Control calls: answered at once, in order. (IO-70 to IO-74)
extension UnitConnection {
  /// Calls whose answers the channel has not taken: more end the channel.
  static let controlLimit = 16

  func receiveControl(_ message: IncomingMessage) {
    guard controlAnswers.count < Self.controlLimit else {
      return violation("expected at most \(Self.controlLimit) control calls at a time, got more")
    }
    do throws(ProtocolFault) {
      let call = try ControlCall(decoding: message.payload)
      controlAnswers.append((message.tag, answer(to: call)))
    } catch { return violation("\(error)") }
    sendControlAnswers()
  }

  /// Answers in order, as far as the channel takes them.
  func sendControlAnswers() {
    guard state == .ready, let channel, !controlAnswers.isEmpty else { return }
    while let (tag, answer) = controlAnswers.first {
      let refusal = channel.send(
        kind: MessageKind.controlAnswer.rawValue, tag: tag, bytes: answer.encoded())
      guard refusal == nil else { break }
      controlAnswers.removeFirst()
    }
    channel.flush()
  }

  private func answer(to call: ControlCall) -> ControlAnswer {
    let volume = served.volume
    switch call.code {
    case .identify where call.payload.isEmpty:
      return ControlAnswer(
        payload: ControlIdentity(
          identifier: volume.identifier, blockCount: volume.blockCount,
          blockByteCount: volume.blockByteCount, access: opening.access,
          volumeName: volume.name, unitName: shard.options.unitName
        ).encoded())
    case .blockSize where call.payload.isEmpty:
      return ControlAnswer(result: Int32(volume.blockByteCount))
    case .setBlockSize where call.payload.count == 4: return setBlockSize(call.payload, volume)
    case .rescan where call.payload.isEmpty:
      let hasGrown = volume.store.grow()
      let count = volume.blockCount
      return ControlAnswer(
        result: hasGrown ? 1 : 0,
        payload: (0..<8).map { UInt8(truncatingIfNeeded: count >> ($0 * 8)) })
    case .pathState where call.payload.isEmpty:
      return ControlAnswer(result: Int32(place.state.rawValue))
    case .health where call.payload.isEmpty:
      return ControlAnswer(payload: served.health.encoded())
    case .sanitise: return ControlAnswer(errno: EOPNOTSUPP)
    case .identify, .blockSize, .setBlockSize, .rescan, .pathState, .health:
      return ControlAnswer(errno: EINVAL)
    default:
      guard call.code.isVendors, let vendor = shard.options.vendorCall else {
        return ControlAnswer(errno: ENOTTY)
      }
      return vendor(opening.hostName, volume, call) ?? ControlAnswer(errno: ENOTTY)
    }
  }

  /// A volume keeps its blocks' size: what it has is legal, all else is not.
  private func setBlockSize(_ payload: [UInt8], _ volume: Volume) -> ControlAnswer {
    let wanted = payload.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    if opening.access == .readOnly { return ControlAnswer(errno: EROFS) }
    return ControlAnswer(
      errno: wanted == volume.blockByteCount ? 0 : EINVAL, result: Int32(volume.blockByteCount))
  }
}
