import FabricBounded
import FabricStorage
import FabricWire

@testable import FabricHostDevices

/// Messages of a front end under features that the input chooses: what is taken makes sense.
func fuzzVhostMessages(_ input: FuzzInput) {
  var input = input
  let device = BlockDevice(
    blockByteCount: 4096, blockCount: 1 << 20, isReadOnly: input.byte() & 1 == 1, queueCount: 4,
    identifier: VolumeIdentifier(high: 1, low: 2))
  var agreement = Agreement(offered: device.features, queueCount: device.queueCount)
  while !input.isEmpty {
    var bytes = input.bytes(VhostUser.headerByteCount)
    bytes += [UInt8](repeating: 0, count: VhostUser.headerByteCount - bytes.count)
    let choice = input.byte()
    if choice & 1 != 0 {
      bytes.replaceSubrange(1..<8, with: [0, 0, 0, 1, 0, 0, 0])
      bytes.replaceSubrange(9..<12, with: [0, 0, 0])
    }
    if choice & 2 != 0 { agreement.protocolFeatures = .offered }
    guard let header = withExactView(bytes, { try? MessageHeader(decoding: $0) }) else { continue }
    require(header.byteCount <= VhostUser.payloadLimit, "a payload that has no room")
    var payload = input.bytes(Int(header.byteCount))
    payload += [UInt8](repeating: 0, count: Int(header.byteCount) - payload.count)
    let count = Int(choice >> 2) & 15
    let found = withExactView(payload) {
      try? agreement.request(header, $0, descriptorCount: count)
    }
    if let found { check(found, device, descriptorCount: count) }
  }
}

private func check(_ request: FrontEndRequest, _ device: BlockDevice, descriptorCount: Int) {
  func check(_ region: RegionDescription) {
    require(region.byteCount > 0, "nothing")
    for start in [region.guestAddress, region.userAddress, region.fileOffset] {
      require(!start.addingReportingOverflow(region.byteCount).overflow, "it wraps")
    }
  }
  switch request {
  case .setFeatures(let features):
    require(features.isSubset(of: device.features), "features that were not offered")
  case .setProtocolFeatures(let features):
    require(features.isSubset(of: .offered), "features that were not offered")
  case .setMemoryTable(let regions):
    require((1...8).contains(regions.count), "\(regions.count) regions")
    require(regions.count == descriptorCount, "not a descriptor for each")
    regions.forEach(check)
  case .addMemoryRegion(let region):
    require(descriptorCount == 1, "not one descriptor")
    check(region)
  case .removeMemoryRegion(let region): check(region)
  case .setQueueSize(let queue, let size):
    require(queue < device.queueCount && size > 0 && size & (size - 1) == 0, "a size of \(size)")
  case .setQueueAddresses(let queue, _), .setQueueBase(let queue, _), .getQueueBase(let queue),
    .setQueueEnabled(let queue, _):
    require(queue < device.queueCount, "no such queue")
  case .setQueueKick(let queue, let hasOne), .setQueueCall(let queue, let hasOne),
    .setQueueError(let queue, let hasOne):
    require(queue < device.queueCount, "no such queue")
    require(descriptorCount == (hasOne ? 1 : 0), "not as many descriptors")
  case .getConfiguration(let offset, let byteCount, _):
    require(offset + byteCount <= VhostUser.configurationLimit, "outside the configuration")
    let written = written(max(1, byteCount)) { device.writeConfiguration(from: offset, into: $0) }
    require(written.count == max(1, byteCount), "all of it")
  case .setConfiguration(let offset, let bytes, _):
    require(offset + bytes.count <= VhostUser.configurationLimit, "outside the configuration")
  case .getInflightMemory(let wanted, _), .setInflightMemory(let wanted):
    require(wanted.queueCount > 0 && wanted.queueCount <= device.queueCount, "so many queues")
    require(wanted.queueSize & (wanted.queueSize - 1) == 0, "a size of \(wanted.queueSize)")
  default: break
  }
}

/// Rings, descriptors and requests of a guest's: all of its memory is the input's.
func fuzzVhostQueue(_ input: FuzzInput) {
  var input = input
  let choice = input.byte()
  let size = 1 << Int(choice & 3)
  let features: DeviceFeatures =
    choice & 4 != 0 ? [.indirectDescriptors, .eventIndex] : [.indirectDescriptors]
  // Two regions that touch in the guest and not here.
  let areas = [FuzzedArea(byteCount: 2048), FuzzedArea(byteCount: 2048)]
  let regions = areas.enumerated().map { index, area in
    let start = UInt64(index * area.byteCount)
    return GuestRegion(
      RegionDescription(
        guestAddress: start, byteCount: UInt64(area.byteCount), userAddress: start,
        fileOffset: 0), address: area.address, owner: area)
  }
  guard let memory = try? GuestMemory(regions) else { fatalError("the regions are apart") }
  let addresses = QueueAddresses(descriptors: 0, used: 512, available: 256)
  for area in areas { area.fill(input.bytes(input.number(below: 256) * 8)) }
  let device = BlockDevice(
    blockByteCount: 512, blockCount: 1000, isReadOnly: choice & 8 != 0, queueCount: 1,
    identifier: VolumeIdentifier(high: 1, low: 2))
  let parser = RequestParser(
    device: device, requestCount: 2, takesPieces: choice & 16 != 0, copiesWrites: false)
  let chain = DescriptorChain()
  guard
    let ring = try? SplitQueue(
      size: size, addresses: addresses, base: 0, features: features, memory: memory)
  else { fatalError("the queue lies in the memory") }
  for _ in 0..<2 * size {
    do throws(QueueFault) {
      guard let head = try ring.take() else { break }
      require(head < size, "head \(head) of \(size)")
      try chain.read(head, of: ring, memory)
      for index in 0..<chain.count { requireInside(chain.pieces[index], areas) }
      if case .request(let request) = parser.parse(chain, slot: 1) {
        check(request, parser, device, areas)
      }
      ring.give(head, byteCount: 1)
      _ = ring.publish()
    } catch { break }
    areas[0].fill(input.bytes(input.number(below: 64)))
  }
}

private func check(
  _ request: GuestRequest, _ parser: RequestParser, _ device: BlockDevice, _ areas: [FuzzedArea]
) {
  switch request.kind {
  case .read, .write:
    var sum: UInt32 = 0
    for index in 0..<Int(request.partCount) {
      let piece = parser.pieces[parser.pieceIndex(of: 1) + index]
      requireInside(piece, areas)
      sum += piece.byteCount
      require(request.isCopied || piece.byteCount % device.blockByteCount == 0, "part of a block")
    }
    require(sum == request.byteCount, "pieces of \(sum) for \(request.byteCount)")
    let end = request.block + UInt64(request.byteCount / device.blockByteCount)
    require(sum > 0 && end <= device.blockCount, "outside the volume")
    require(request.kind == .read || !device.isReadOnly, "what may only be read was to be written")
  case .discard, .writeZeroes:
    require(!device.isReadOnly, "what may only be read was to be changed")
    for index in 0..<Int(request.partCount) {
      let range = parser.ranges[parser.rangeIndex(of: 1) + index]
      require(
        range.blockCount > 0 && range.block + UInt64(range.blockCount) <= device.blockCount,
        "outside the volume")
    }
  case .flush: break
  case .identify: fatalError("that is answered at once")
  }
}

private func requireInside(_ piece: GuestPiece, _ areas: [FuzzedArea]) {
  require(piece.byteCount > 0, "an empty piece")
  let area = areas[Int(piece.region)]
  require(
    piece.address >= area.address
      && piece.address + UInt64(piece.byteCount) <= area.address + UInt64(area.byteCount),
    "a piece outside the guest's memory")
}

/// Memory that ends where the sanitizer sees a step over it.
@safe
private final class FuzzedArea {
  let byteCount: Int
  private let bytes: UnsafeMutableRawBufferPointer

  init(byteCount: Int) {
    self.byteCount = byteCount
    unsafe bytes = .allocate(byteCount: byteCount, alignment: 64)
    unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { unsafe bytes.deallocate() }

  var address: UInt64 { unsafe UInt64(UInt(bitPattern: bytes.baseAddress!)) }

  func fill(_ values: [UInt8]) {
    unsafe bytes.copyBytes(from: values.prefix(byteCount))
  }
}
