public import FabricMessaging
public import FabricStorage
import FabricVerbs

/// Why a remote volume cannot be used, or a request failed.
public enum RemoteVolumeError: Error, Sendable, CustomStringConvertible {
  /// The adapter or the machine lacks something.
  case resource(String)
  /// No connection could be had, at the first attempt.
  case unreachable(address: VolumeAddress, reason: String)
  /// What was reached does not speak the protocol. Asking again does not help.
  case foreign(address: VolumeAddress, reason: String)
  /// The unit's end hung up before the connection was of use, as it does with whom it has no place
  /// for. Asking again may help.
  case turnedAway(address: VolumeAddress, reason: String)
  /// The unit was reached and refused: it has no such volume, or not for this host. Asking again
  /// does not help.
  case refused(address: VolumeAddress, reason: String)
  /// The unit and this host have not both proven a key that both have. Asking again does not help.
  case unproven(address: VolumeAddress, reason: String)
  /// No connection for as long as it was told to wait.
  case timedOut(address: VolumeAddress, after: Duration, reason: String)
  /// The connection seems to stand, and a request got no answer for as long as it was told to wait.
  case unanswered(address: VolumeAddress, after: Duration)
  /// What answers now is not the volume that was attached.
  case volumeChanged(address: VolumeAddress, detail: String)
  /// The volume was closed.
  case closed
  /// Bytes to write that are no multiple of the block; nothing was written.
  case notWholeBlocks(byteCount: Int, blockByteCount: UInt32)
  /// A request ended badly. `block` is the first block of the part that failed.
  case failed(BlockOperation, block: UInt64, blockCount: UInt64, status: BlockStatus)

  public var description: String {
    switch self {
    case .resource(let words): words
    case .unreachable(_, let reason), .refused(_, let reason), .unproven(_, let reason),
      .foreign(_, let reason):
      reason
    case .turnedAway(let address, let reason):
      "expected \(address) to take this host, but it hung up: \(reason); it may have as many "
        + "connections as it takes, or have ended: see its log, and try again later or allow more time"
    case .timedOut(let address, let after, let reason):
      "gave up on \(address) after \(Self.seconds(after)), because \(reason); "
        + "start the unit, or allow more time"
    case .unanswered(let address, let after):
      "gave up on \(address) after \(Self.seconds(after)), because a request has no answer, though the "
        + "connection is not known to be lost; see whether the unit or the disk under the volume hangs, or "
        + "allow more time"
    case .volumeChanged(let address, let detail):
      "expected \(address) to be the volume that was attached, \(detail); "
        + "check what is served there, then attach it again"
    case .closed: "the volume was closed"
    case .notWholeBlocks(let byteCount, let block):
      "expected whole blocks of \(block) bytes to write, got \(byteCount) bytes"
    case .failed(let operation, let block, let count, let status):
      count == 0
        ? "\(operation) failed: \(status.explanation)"
        : "\(operation) of \(count) block\(count == 1 ? "" : "s") from block \(block) failed: "
          + status.explanation
    }
  }

  /// Whether asking again never helps.
  var isForGood: Bool {
    switch self {
    case .unproven, .volumeChanged, .foreign: true
    default: false
    }
  }

  /// Why a first connection did not come.
  public static func opening(_ error: ChannelOpenError, of address: VolumeAddress) -> Self {
    switch error {
    case .refused(let reason): .refused(address: address, reason: "the unit refused: \(reason)")
    case .unproven(let reason): .unproven(address: address, reason: "\(address): \(reason)")
    // Without a word it was no judgement, but an end in between.
    case .connect(.rejected(let words)) where !words.isEmpty:
      .refused(address: address, reason: error.description)
    case .lost(let words): .turnedAway(address: address, reason: words)
    case .connect(.turnedAway):
      .turnedAway(address: address, reason: "the connection was reset before it was answered")
    // The adapter's words name the place already.
    case .connect: .unreachable(address: address, reason: error.description)
    case .resources(let words): .resource(words)
    default: .unreachable(address: address, reason: "\(address): \(error)")
    }
  }

  /// A duration for people.
  static func seconds(_ duration: Duration) -> String {
    let milliseconds =
      duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    if milliseconds < 1000 { return "\(milliseconds) ms" }
    let tenths = (milliseconds + 50) / 100
    return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
  }
}
