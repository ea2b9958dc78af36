import FabricWire

/// Reads the payload of one message.
struct PayloadReader {
  let code: VhostUser.Code
  let payload: WireView
  let descriptorCount: Int
  var queueCount = 0

  init(code: VhostUser.Code, payload: WireView, descriptorCount: Int) {
    self.code = code
    self.payload = payload
    self.descriptorCount = descriptorCount
  }

  func request(offered: DeviceFeatures) throws(VhostUserFault) -> FrontEndRequest {
    switch code {
    case .getFeatures: return try empty(.getFeatures)
    case .getProtocolFeatures: return try empty(.getProtocolFeatures)
    case .setOwner: return try empty(.setOwner)
    case .resetOwner: return try empty(.resetOwner)
    case .resetDevice: return try empty(.resetDevice)
    case .getQueueCount: return try empty(.getQueueCount)
    case .getMemorySlotCount: return try empty(.getMemorySlotCount)
    case .setFeatures:
      let bits = try word()
      guard bits & ~offered.rawValue == 0 else { throw .features(bits & ~offered.rawValue) }
      return .setFeatures(DeviceFeatures(rawValue: bits))
    case .setProtocolFeatures:
      let bits = try word()
      let unknown = bits & ~ProtocolFeatures.offered.rawValue
      guard unknown == 0 else { throw .features(unknown) }
      return .setProtocolFeatures(ProtocolFeatures(rawValue: bits))
    case .setMemoryTable: return try memoryTable()
    case .addMemoryRegion: return .addMemoryRegion(try region(descriptors: 1...1))
    // Front ends have sent one with it, which is closed.
    case .removeMemoryRegion: return .removeMemoryRegion(try region(descriptors: 0...1))
    case .setQueueSize, .setQueueBase, .getQueueBase, .setQueueEnabled: return try queueState()
    case .setQueueAddresses: return try queueAddresses()
    case .setQueueKick:
      let (queue, hasOne) = try queueDescriptor()
      return .setQueueKick(queue: queue, hasDescriptor: hasOne)
    case .setQueueCall:
      let (queue, hasOne) = try queueDescriptor()
      return .setQueueCall(queue: queue, hasDescriptor: hasOne)
    case .setQueueError:
      let (queue, hasOne) = try queueDescriptor()
      return .setQueueError(queue: queue, hasDescriptor: hasOne)
    case .setBackEndSocket:
      try length(0)
      try descriptors(1...1)
      return .setBackEndSocket
    case .getConfiguration, .setConfiguration: return try configuration()
    case .getInflightMemory, .setInflightMemory: return try inflight()
    }
  }

  private func length(_ count: Int) throws(VhostUserFault) {
    guard payload.byteCount == count else { throw .length(code, payload.byteCount) }
  }

  private func descriptors(_ allowed: ClosedRange<Int>) throws(VhostUserFault) {
    guard allowed.contains(descriptorCount) else { throw .descriptors(code, descriptorCount) }
  }

  private func empty(_ request: FrontEndRequest) throws(VhostUserFault) -> FrontEndRequest {
    try length(0)
    try descriptors(0...0)
    return request
  }

  private func word() throws(VhostUserFault) -> UInt64 {
    try length(8)
    try descriptors(0...0)
    return payload.uint64(at: 0)
  }

  private func queue(_ number: UInt64) throws(VhostUserFault) -> Int {
    guard number < UInt64(queueCount) else { throw .queue(number) }
    return Int(number)
  }

  private func memoryTable() throws(VhostUserFault) -> FrontEndRequest {
    guard payload.byteCount >= 8 else { throw .length(code, payload.byteCount) }
    let count = Int(payload.uint32(at: 0))
    guard count >= 1, count <= VhostUser.tableRegionLimit else { throw .value(code) }
    try length(8 + count * RegionDescription.byteCount)
    try descriptors(count...count)
    var regions: [RegionDescription] = []
    for index in 0..<count {
      let offset = 8 + index * RegionDescription.byteCount
      guard let region = RegionDescription(payload, at: offset) else { throw .value(code) }
      regions.append(region)
    }
    return .setMemoryTable(regions)
  }

  private func region(
    descriptors allowed: ClosedRange<Int>
  ) throws(VhostUserFault) -> RegionDescription {
    try length(8 + RegionDescription.byteCount)
    try descriptors(allowed)
    guard let region = RegionDescription(payload, at: 8) else { throw .value(code) }
    return region
  }

  private func queueState() throws(VhostUserFault) -> FrontEndRequest {
    try length(8)
    try descriptors(0...0)
    let queue = try queue(UInt64(payload.uint32(at: 0)))
    let number = payload.uint32(at: 4)
    switch code {
    case .setQueueSize:
      guard number >= 1, number <= VhostUser.queueSizeLimit, number & (number - 1) == 0 else {
        throw .value(code)
      }
      return .setQueueSize(queue: queue, size: Int(number))
    case .setQueueBase:
      guard number <= UInt16.max else { throw .value(code) }
      return .setQueueBase(queue: queue, base: UInt16(number))
    case .setQueueEnabled:
      guard number <= 1 else { throw .value(code) }
      return .setQueueEnabled(queue: queue, number == 1)
    default: return .getQueueBase(queue: queue)
    }
  }

  private func queueAddresses() throws(VhostUserFault) -> FrontEndRequest {
    try length(40)
    try descriptors(0...0)
    let queue = try queue(UInt64(payload.uint32(at: 0)))
    // Nothing is logged: that was not offered.
    guard payload.uint32(at: 4) == 0 else { throw .value(code) }
    return .setQueueAddresses(
      queue: queue,
      QueueAddresses(
        descriptors: payload.uint64(at: 8), used: payload.uint64(at: 16),
        available: payload.uint64(at: 24)))
  }

  private func queueDescriptor() throws(VhostUserFault) -> (queue: Int, hasOne: Bool) {
    try length(8)
    let word = payload.uint64(at: 0)
    let hasOne = word & VhostUser.noDescriptorFlag == 0
    guard word >> 9 == 0 else { throw .value(code) }
    try descriptors(hasOne ? 1...1 : 0...0)
    return (try queue(word & 0xFF), hasOne)
  }

  private func configuration() throws(VhostUserFault) -> FrontEndRequest {
    try descriptors(0...0)
    guard payload.byteCount >= 12 else { throw .length(code, payload.byteCount) }
    let offset = payload.uint32(at: 0)
    let count = payload.uint32(at: 4)
    let flags = payload.uint32(at: 8)
    guard count <= VhostUser.configurationLimit else { throw .value(code) }
    try length(12 + Int(count))
    guard offset <= VhostUser.configurationLimit - Int(count), flags <= 1 else {
      throw .value(code)
    }
    if code == .getConfiguration {
      return .getConfiguration(offset: Int(offset), byteCount: Int(count), flags: flags)
    }
    return .setConfiguration(
      offset: Int(offset), bytes: payload.slice(12, Int(count)).array, flags: flags)
  }

  private func inflight() throws(VhostUserFault) -> FrontEndRequest {
    // QEMU sends its structure with the padding at the end.
    guard payload.byteCount == 20 || payload.byteCount == 24 else {
      throw .length(code, payload.byteCount)
    }
    let description = InflightDescription(
      byteCount: payload.uint64(at: 0), fileOffset: payload.uint64(at: 8),
      queueCount: payload.uint16(at: 16), queueSize: payload.uint16(at: 18))
    guard description.queueCount >= 1, Int(description.queueCount) <= queueCount,
      description.queueSize >= 1, description.queueSize <= VhostUser.queueSizeLimit,
      description.queueSize & (description.queueSize - 1) == 0
    else { throw .value(code) }
    if code == .getInflightMemory {
      try descriptors(0...0)
      return .getInflightMemory(description, payloadByteCount: payload.byteCount)
    }
    try descriptors(1...1)
    guard description.fileOffset == 0 else { throw .value(code) }
    return .setInflightMemory(description)
  }
}
