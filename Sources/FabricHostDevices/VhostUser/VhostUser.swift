/// The numbers of the vhost-user protocol. `package` is what tests' front end has of them.
package enum VhostUser {
  static let headerByteCount = 12
  static let version: UInt32 = 1
  static let versionMask: UInt32 = 3
  static let replyFlag: UInt32 = 1 << 2
  static let needsReplyFlag: UInt32 = 1 << 3
  /// More than the longest payload that is known, a memory table's or a configuration's.
  static let payloadLimit = 512
  /// Regions of one memory table.
  static let tableRegionLimit = 8
  /// Regions that are added one by one.
  static let regionLimit = 32
  /// Entries of a queue; the most that a split queue may have.
  static let queueSizeLimit = 32768
  /// A queue's number is eight bits of a word.
  static let queueCountLimit = 64
  /// Of a configuration space.
  static let configurationLimit = 256
  /// In a word with a queue's number: no descriptor came with it.
  static let noDescriptorFlag: UInt64 = 1 << 8

  /// What the front end asks.
  package enum Code: UInt32, CaseIterable {
    case getFeatures = 1
    case setFeatures = 2
    case setOwner = 3
    case resetOwner = 4
    case setMemoryTable = 5
    case setQueueSize = 8
    case setQueueAddresses = 9
    case setQueueBase = 10
    case getQueueBase = 11
    case setQueueKick = 12
    case setQueueCall = 13
    case setQueueError = 14
    case getProtocolFeatures = 15
    case setProtocolFeatures = 16
    case getQueueCount = 17
    case setQueueEnabled = 18
    case setBackEndSocket = 21
    case getConfiguration = 24
    case setConfiguration = 25
    case getInflightMemory = 31
    case setInflightMemory = 32
    case resetDevice = 34
    case getMemorySlotCount = 36
    case addMemoryRegion = 37
    case removeMemoryRegion = 38
  }

  /// What the back end asks: the configuration has changed.
  static let configurationChanged: UInt32 = 2
}

/// Extensions of the vhost-user protocol, as both sides agree on them.
struct ProtocolFeatures: OptionSet, Equatable {
  let rawValue: UInt64

  static let severalQueues = ProtocolFeatures(rawValue: 1 << 0)
  static let replyOnDemand = ProtocolFeatures(rawValue: 1 << 3)
  static let backEndRequests = ProtocolFeatures(rawValue: 1 << 5)
  static let configuration = ProtocolFeatures(rawValue: 1 << 9)
  static let inflightMemory = ProtocolFeatures(rawValue: 1 << 12)
  static let resetDevice = ProtocolFeatures(rawValue: 1 << 13)
  static let memorySlots = ProtocolFeatures(rawValue: 1 << 15)

  static let offered: ProtocolFeatures = [
    .severalQueues, .replyOnDemand, .backEndRequests, .configuration, .inflightMemory,
    .resetDevice, .memorySlots,
  ]
}

/// Features of a virtio block device over split queues, as driver and device agree on them.
package struct DeviceFeatures: OptionSet, Equatable {
  package let rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  // Of block devices.
  static let segmentLimit = DeviceFeatures(rawValue: 1 << 2)
  static let readOnly = DeviceFeatures(rawValue: 1 << 5)
  static let blockSize = DeviceFeatures(rawValue: 1 << 6)
  static let flush = DeviceFeatures(rawValue: 1 << 9)
  static let topology = DeviceFeatures(rawValue: 1 << 10)
  static let severalQueues = DeviceFeatures(rawValue: 1 << 12)
  static let discard = DeviceFeatures(rawValue: 1 << 13)
  static let writeZeroes = DeviceFeatures(rawValue: 1 << 14)
  // Of queues and devices of all kinds.
  static let indirectDescriptors = DeviceFeatures(rawValue: 1 << 28)
  package static let eventIndex = DeviceFeatures(rawValue: 1 << 29)
  /// The vhost-user protocol's own: it has features of its own.
  static let protocolFeatures = DeviceFeatures(rawValue: 1 << 30)
  static let version1 = DeviceFeatures(rawValue: 1 << 32)

  /// What every device of ours has.
  static let common: DeviceFeatures = [
    .segmentLimit, .blockSize, .flush, .topology, .indirectDescriptors, .eventIndex,
    .protocolFeatures, .version1,
  ]
}

/// Why a message of the front end was not carried out.
enum VhostUserFault: Error, Equatable, CustomStringConvertible {
  /// The stream makes no sense any more: it ends.
  case version(UInt32)
  case tooLong(Int)
  case isReply
  case tooManyDescriptors
  /// The message makes none; the stream goes on where the front end asked for an answer.
  case unknown(code: UInt32)
  case length(VhostUser.Code, Int)
  case descriptors(VhostUser.Code, Int)
  case notAgreed(VhostUser.Code)
  case features(UInt64)
  case queue(UInt64)
  case value(VhostUser.Code)
  case memory(String)
  case order(VhostUser.Code)

  /// Whether where the next message begins is not known.
  var endsStream: Bool {
    switch self {
    case .version, .tooLong, .isReply, .tooManyDescriptors: true
    default: false
    }
  }

  var description: String {
    switch self {
    case .version(let found): "expected version 1 of the protocol, got flags \(found)"
    case .tooLong(let count):
      "expected at most \(VhostUser.payloadLimit) bytes of payload, got \(count)"
    case .isReply: "expected a request, got a reply"
    case .tooManyDescriptors: "expected at most 8 descriptors with a message, got more"
    case .unknown(let code): "message \(code) is not known here"
    case .length(let code, let count): "\(code) does not have \(count) bytes of payload"
    case .descriptors(let code, let count): "\(code) does not come with \(count) descriptors"
    case .notAgreed(let code): "\(code) belongs to a feature that was not agreed on"
    case .features(let bits): "features \(String(bits, radix: 16)) were not offered"
    case .queue(let number): "there is no queue \(number)"
    case .value(let code): "\(code) has a value that makes no sense"
    case .memory(let words): words
    case .order(let code): "\(code) comes at the wrong time"
    }
  }
}
