import FabricStorage
import FabricWire

/// A volume as a virtio block device (virtio 1.2, 5.2): its features and its configuration space.
struct BlockDevice: Equatable {
  static let sectorByteCount = 512
  /// What every configuration says of segments of one request: a queue of 128 holds header and status, too.
  static let segmentLimit = 126
  /// Sectors of one range to be given back, or to be zeroed: 128 MiB and 16 MiB.
  static let discardSectorLimit: UInt32 = 1 << 18
  static let zeroesSectorLimit: UInt32 = 1 << 15
  /// Ranges of one such request.
  static let rangeLimit = 32
  static let configurationByteCount = 60
  static let identifierByteCount = 20

  var blockByteCount: UInt32
  var blockCount: UInt64
  var isReadOnly: Bool
  var queueCount: Int
  var identifier: VolumeIdentifier

  var features: DeviceFeatures {
    var features = DeviceFeatures.common
    if isReadOnly {
      features.insert(.readOnly)
    } else {
      features.formUnion([.discard, .writeZeroes])
    }
    if queueCount > 1 { features.insert(.severalQueues) }
    return features
  }

  var sectorsPerBlock: UInt64 { UInt64(blockByteCount) / UInt64(Self.sectorByteCount) }
  var sectorCount: UInt64 { blockCount * sectorsPerBlock }

  /// Fills `buffer` with the configuration space from `offset` on; zeroes behind its end. (VU-40)
  func writeConfiguration(from offset: Int, into buffer: WireBuffer) {
    buffer.clear()
    let bytes = configuration
    guard offset < bytes.count else { return }
    buffer.copy(Array(bytes[offset...].prefix(buffer.byteCount)), at: 0)
  }

  var configuration: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.configurationByteCount)
    func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
      for index in 0..<MemoryLayout<Value>.size {
        bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
      }
    }
    put(sectorCount, at: 0)
    put(UInt32(Self.segmentLimit), at: 12)
    put(blockByteCount, at: 20)
    // Topology: one block each, and no alignment.
    put(UInt16(1), at: 26)
    put(UInt16(queueCount), at: 34)
    guard !isReadOnly else { return bytes }
    put(Self.discardSectorLimit, at: 36)
    put(UInt32(Self.rangeLimit), at: 40)
    put(UInt32(sectorsPerBlock), at: 44)
    put(Self.zeroesSectorLimit, at: 48)
    put(UInt32(Self.rangeLimit), at: 52)
    bytes[56] = 1
    return bytes
  }

  /// The name that the guest sees, of which there is room for 20 bytes.
  var identifierBytes: [UInt8] {
    let digits = "\(identifier)".utf8.filter { $0 != UInt8(ascii: "-") }
    return Array(digits.prefix(Self.identifierByteCount))
  }
}

/// What a request of the guest's asks.
enum BlockRequestKind: UInt32, BitwiseCopyable {
  case read = 0
  case write = 1
  case flush = 4
  case identify = 8
  case discard = 11
  case writeZeroes = 13
}

/// How a request ended, as the guest is told.
enum BlockRequestStatus: UInt8, BitwiseCopyable {
  case success = 0
  case failed = 1
  case unsupported = 2

  init(_ status: BlockStatus) {
    switch status {
    case .success: self = .success
    case .unsupported: self = .unsupported
    default: self = .failed
    }
  }
}

/// The head of a request, copied from the guest.
struct BlockRequestHeader: BitwiseCopyable {
  static let byteCount = 16

  var type: UInt32
  var sector: UInt64

  @inline(__always)
  init(_ bytes: (UInt64, UInt64)) {
    type = UInt32(truncatingIfNeeded: UInt64(littleEndian: bytes.0))
    sector = UInt64(littleEndian: bytes.1)
  }
}

/// A range to be given back or zeroed.
struct BlockRange: BitwiseCopyable, Equatable {
  static let byteCount = 16
  static let unmapFlag: UInt32 = 1

  var block: UInt64
  var blockCount: UInt32

  /// Checks a range as the guest gave it. (VU-44)
  static func checked(
    sector: UInt64, count: UInt32, flags: UInt32, kind: BlockRequestKind, of device: BlockDevice
  ) -> Result<BlockRange, RangeRefusal> {
    let allowed = kind == .writeZeroes ? unmapFlag : 0
    guard flags & ~allowed == 0 else { return .failure(.unsupported) }
    let limit =
      kind == .writeZeroes ? BlockDevice.zeroesSectorLimit : BlockDevice.discardSectorLimit
    let perBlock = device.sectorsPerBlock
    guard count > 0, count <= limit, sector <= device.sectorCount,
      UInt64(count) <= device.sectorCount - sector, sector % perBlock == 0,
      UInt64(count) % perBlock == 0
    else { return .failure(.failed) }
    return .success(
      BlockRange(
        block: sector / perBlock, blockCount: UInt32(UInt64(count) / perBlock)))
  }

  enum RangeRefusal: Error {
    case failed
    case unsupported

    var status: BlockRequestStatus { self == .unsupported ? .unsupported : .failed }
  }
}
