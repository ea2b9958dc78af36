import FabricNBDProtocol
import FabricStorage

/// A volume as an NBD client sees it.
struct NBDExport: Equatable {
  var name: String
  var byteCount: UInt64
  /// 512 or 4096: what offsets and lengths are multiples of.
  var blockByteCount: UInt32
  var isReadOnly: Bool
  var description: String

  init(
    name: String, byteCount: UInt64, blockByteCount: UInt32, isReadOnly: Bool,
    description: String = ""
  ) {
    self.name = name
    self.byteCount = byteCount
    self.blockByteCount = blockByteCount
    self.isReadOnly = isReadOnly
    self.description = description
  }

  init(_ volume: Volume, access: VolumeAccess) {
    self.init(
      name: volume.name, byteCount: volume.byteCount, blockByteCount: volume.blockByteCount,
      isReadOnly: access == .readOnly, description: "volume \(volume.identifier)")
  }

  /// What a client may ask for. (NB-20)
  func flags(hasStructuredReplies: Bool) -> NBD.TransmissionFlags {
    var flags: NBD.TransmissionFlags = [
      .hasFlags, .flush, .forceUnitAccess, .trim, .writeZeroes, .multipleConnections, .cache,
      .fastZero,
    ]
    if isReadOnly { flags.insert(.readOnly) }
    if hasStructuredReplies { flags.insert(.doNotFragment) }
    return flags
  }
}

/// What the handshake has settled.
struct NBDSession: Equatable {
  var export: NBDExport
  var hasStructuredReplies = false
  /// Whether `base:allocation` was selected.
  var hasAllocationContext = false

  /// What each request is held to.
  var rules: NBDRules {
    NBDRules(
      byteCount: export.byteCount, blockMask: UInt64(export.blockByteCount) - 1,
      isReadOnly: export.isReadOnly, hasStructuredReplies: hasStructuredReplies,
      hasAllocationContext: hasAllocationContext)
  }
}
