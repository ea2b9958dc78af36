import FabricWire

/// The beginning of every message.
struct MessageHeader: Equatable {
  var code: UInt32
  var flags: UInt32
  var byteCount: UInt32

  /// A request of the front end. (VU-10)
  init(decoding view: WireView) throws(VhostUserFault) {
    code = view.uint32(at: 0)
    flags = view.uint32(at: 4)
    byteCount = view.uint32(at: 8)
    guard flags & VhostUser.versionMask == VhostUser.version else { throw .version(flags) }
    guard flags & VhostUser.replyFlag == 0 else { throw .isReply }
    guard byteCount <= VhostUser.payloadLimit else { throw .tooLong(Int(byteCount)) }
  }

  init(code: UInt32, flags: UInt32, byteCount: Int) {
    self.code = code
    self.flags = flags | VhostUser.version
    self.byteCount = UInt32(byteCount)
  }

  var wantsReply: Bool { flags & VhostUser.needsReplyFlag != 0 }

  func encode(into buffer: WireBuffer) {
    buffer.set(code, at: 0)
    buffer.set(flags, at: 4)
    buffer.set(byteCount, at: 8)
  }
}

/// A piece of the guest's memory, as the front end tells of it.
package struct RegionDescription: Equatable {
  package var guestAddress: UInt64
  package var byteCount: UInt64
  /// In the front end's process.
  package var userAddress: UInt64
  /// Where it begins in its file.
  package var fileOffset: UInt64

  static let byteCount = 32

  package init(
    guestAddress: UInt64, byteCount: UInt64, userAddress: UInt64, fileOffset: UInt64
  ) {
    self.guestAddress = guestAddress
    self.byteCount = byteCount
    self.userAddress = userAddress
    self.fileOffset = fileOffset
  }

  /// Nil: it wraps, or holds nothing.
  init?(_ view: WireView, at offset: Int) {
    guestAddress = view.uint64(at: offset)
    byteCount = view.uint64(at: offset + 8)
    userAddress = view.uint64(at: offset + 16)
    fileOffset = view.uint64(at: offset + 24)
    let limit = UInt64(Int64.max)
    guard byteCount > 0, byteCount <= limit, fileOffset <= limit - byteCount,
      guestAddress <= .max - byteCount, userAddress <= .max - byteCount
    else { return nil }
  }
}

/// Where a queue's parts lie, in the front end's process.
package struct QueueAddresses: Equatable {
  package var descriptors: UInt64
  package var used: UInt64
  package var available: UInt64

  package init(descriptors: UInt64, used: UInt64, available: UInt64) {
    self.descriptors = descriptors
    self.used = used
    self.available = available
  }
}

/// The memory in which requests under way are noted.
struct InflightDescription: Equatable {
  var byteCount: UInt64
  var fileOffset: UInt64
  var queueCount: UInt16
  var queueSize: UInt16
}

/// A message of the front end, checked by itself and against what was agreed on.
enum FrontEndRequest: Equatable {
  case getFeatures
  case setFeatures(DeviceFeatures)
  case getProtocolFeatures
  case setProtocolFeatures(ProtocolFeatures)
  case setOwner
  case resetOwner
  case resetDevice
  case setMemoryTable([RegionDescription])
  case getMemorySlotCount
  case addMemoryRegion(RegionDescription)
  case removeMemoryRegion(RegionDescription)
  case getQueueCount
  case setQueueSize(queue: Int, size: Int)
  case setQueueAddresses(queue: Int, QueueAddresses)
  case setQueueBase(queue: Int, base: UInt16)
  case getQueueBase(queue: Int)
  case setQueueKick(queue: Int, hasDescriptor: Bool)
  case setQueueCall(queue: Int, hasDescriptor: Bool)
  case setQueueError(queue: Int, hasDescriptor: Bool)
  case setQueueEnabled(queue: Int, Bool)
  case setBackEndSocket
  case getConfiguration(offset: Int, byteCount: Int, flags: UInt32)
  case setConfiguration(offset: Int, bytes: [UInt8], flags: UInt32)
  /// With how long its payload is: compilers disagree.
  case getInflightMemory(InflightDescription, payloadByteCount: Int)
  case setInflightMemory(InflightDescription)
}

/// What front end and back end have agreed on, and so which messages there are.
struct Agreement {
  /// What the device has to offer.
  let offered: DeviceFeatures
  let queueCount: Int
  var features = DeviceFeatures(rawValue: 0)
  var protocolFeatures = ProtocolFeatures(rawValue: 0)

  init(offered: DeviceFeatures, queueCount: Int) {
    self.offered = offered
    self.queueCount = queueCount
  }

  /// Reads a message. Nothing changes. (VU-11 to VU-14)
  func request(
    _ header: MessageHeader, _ payload: WireView, descriptorCount: Int
  ) throws(VhostUserFault) -> FrontEndRequest {
    guard let code = VhostUser.Code(rawValue: header.code) else {
      throw .unknown(code: header.code)
    }
    if let needed = Self.needed(by: code), !protocolFeatures.contains(needed) {
      throw .notAgreed(code)
    }
    var reader = PayloadReader(code: code, payload: payload, descriptorCount: descriptorCount)
    reader.queueCount = queueCount
    return try reader.request(offered: offered)
  }

  /// The feature that brings a message.
  private static func needed(by code: VhostUser.Code) -> ProtocolFeatures? {
    switch code {
    case .setBackEndSocket: .backEndRequests
    case .getConfiguration, .setConfiguration: .configuration
    case .getInflightMemory, .setInflightMemory: .inflightMemory
    case .resetDevice: .resetDevice
    case .getMemorySlotCount, .addMemoryRegion, .removeMemoryRegion: .memorySlots
    default: nil
    }
  }
}
