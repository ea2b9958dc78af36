import FabricBounded
import FabricStorage

/// A guest's request, taken from a queue and not given back.
struct GuestRequest: BitwiseCopyable {
  var kind = BlockRequestKind.flush
  var status = BlockRequestStatus.success
  var isTaken = false
  /// Its data is copied through memory of the volume's.
  var isCopied = false
  /// Everything was handed to the volume.
  var isIssued = false
  var queue: UInt16 = 0
  var head: UInt16 = 0
  /// Its pieces, or ranges, in the table.
  var partCount: UInt16 = 0
  /// Commands of the volume's that have not ended.
  var commandCount: UInt16 = 0
  /// The next to be handed over: a piece and a place in it, or a range.
  var partIndex: UInt16 = 0
  var partOffset: UInt32 = 0
  var issuedByteCount: UInt32 = 0
  var byteCount: UInt32 = 0
  var block: UInt64 = 0
  /// Of the byte that tells how it ended.
  var statusAddress: UInt64 = 0
}

/// What the guest asked, as far as it can be told from the chain alone.
enum ParsedRequest {
  /// To be carried out; its parts are in the table.
  case request(GuestRequest)
  /// Answered without the volume.
  case answered(BlockRequestStatus, byteCount: UInt32)
  /// There is no place for an answer.
  case unanswerable
}

/// Reads requests from chains. (VU-41 to VU-45)
@safe
final class RequestParser {
  var device: BlockDevice
  /// Of each request: pieces of memory, where it moves data, else ranges.
  let pieces: FixedTable<GuestPiece>
  let ranges: FixedTable<BlockRange>
  private let scratch: UnsafeMutableRawPointer
  private let identifier: [UInt8]
  /// Whether fabric and guest's memory get along without copies.
  let takesPieces: Bool
  /// Writes go from copies all the same.
  let copiesWrites: Bool
  /// A command costs as much as copying about so many bytes: shorter pieces are put together.
  private static let worthwhileByteCount = 16 << 10
  private static let requestLimit = 1 << 30

  init(device: BlockDevice, requestCount: Int, takesPieces: Bool, copiesWrites: Bool) {
    self.device = device
    self.takesPieces = takesPieces
    self.copiesWrites = copiesWrites
    identifier = device.identifierBytes
    pieces = FixedTable(
      repeating: GuestPiece(address: 0, byteCount: 0, region: 0),
      count: requestCount * DescriptorChain.limit)
    ranges = FixedTable(
      repeating: BlockRange(block: 0, blockCount: 0),
      count: requestCount * BlockDevice.rangeLimit)
    unsafe scratch = .allocate(
      byteCount: BlockDevice.rangeLimit * BlockRange.byteCount, alignment: 16)
  }

  deinit { unsafe scratch.deallocate() }

  func pieceIndex(of slot: Int) -> Int { slot &* DescriptorChain.limit }
  func rangeIndex(of slot: Int) -> Int { slot &* BlockDevice.rangeLimit }

  /// Reads the request in `chain`, with its parts to the places of `slot`.
  func parse(_ chain: DescriptorChain, slot: Int) -> ParsedRequest {
    guard let statusAddress = chain.lastWritableByte else { return .unanswerable }
    func answer(_ status: BlockRequestStatus, data: Int = 0) -> ParsedRequest {
      GuestCopy.put(status.rawValue, to: statusAddress)
      let writable = chain.byteCount(isWritable: true)
      // The used length counts from the beginning of what may be written: where the data was not, it is 0.
      let isWhole = data == writable - 1
      return .answered(status, byteCount: UInt32(isWhole ? writable : data))
    }
    guard
      unsafe chain.copyReadable(from: 0, to: scratch, byteCount: BlockRequestHeader.byteCount)
    else { return answer(.failed) }
    let header = unsafe BlockRequestHeader(
      (scratch.load(as: UInt64.self), (scratch + 8).load(as: UInt64.self)))
    let readable = chain.byteCount(isWritable: false) - BlockRequestHeader.byteCount
    let writable = chain.byteCount(isWritable: true) - 1
    guard let kind = BlockRequestKind(rawValue: header.type) else { return answer(.unsupported) }
    var request = GuestRequest()
    request.kind = kind
    request.statusAddress = statusAddress
    switch kind {
    case .read, .write:
      let byteCount = kind == .read ? writable : readable
      guard kind == .read || !device.isReadOnly, isInside(header.sector, byteCount) else {
        return answer(.failed)
      }
      request.block = header.sector / device.sectorsPerBlock
      request.byteCount = UInt32(byteCount)
      collect(chain, into: &request, slot: slot)
    case .flush: break
    case .identify:
      let count = min(writable, BlockDevice.identifierByteCount)
      for index in 0..<count {
        let byte = index < identifier.count ? identifier[index] : 0
        unsafe scratch.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
      }
      _ = unsafe chain.copyWritable(to: 0, from: scratch, byteCount: count)
      return answer(.success, data: count)
    case .discard, .writeZeroes:
      guard !device.isReadOnly, readable > 0, readable % BlockRange.byteCount == 0,
        readable / BlockRange.byteCount <= BlockDevice.rangeLimit
      else { return answer(.failed) }
      if let refusal = collectRanges(chain, readable, into: &request, slot: slot) {
        return answer(refusal)
      }
    }
    return .request(request)
  }

  /// Whole blocks of the volume, and some.
  private func isInside(_ sector: UInt64, _ byteCount: Int) -> Bool {
    guard byteCount > 0, byteCount <= Self.requestLimit,
      byteCount % Int(device.blockByteCount) == 0, sector % device.sectorsPerBlock == 0
    else { return false }
    let sectors = UInt64(byteCount / BlockDevice.sectorByteCount)
    return sector <= device.sectorCount && sectors <= device.sectorCount - sector
  }

  /// Puts the pieces of the data into the table, those that touch together, and decides whether they go to
  /// the fabric as they are. (VU-43)
  private func collect(_ chain: DescriptorChain, into request: inout GuestRequest, slot: Int) {
    let isRead = request.kind == .read
    var skip = isRead ? 0 : UInt32(BlockRequestHeader.byteCount)
    var left = request.byteCount
    let start = pieceIndex(of: slot)
    var count = 0
    var areWhole = true
    for index in isRead ? chain.readableCount..<chain.count : 0..<chain.readableCount {
      var piece = chain.pieces[index]
      if skip >= piece.byteCount {
        skip -= piece.byteCount
        continue
      }
      piece.address += UInt64(skip)
      piece.byteCount = min(piece.byteCount - skip, left)
      skip = 0
      left -= piece.byteCount
      guard piece.byteCount > 0 else { break }
      if count > 0 {
        let last = pieces[start + count - 1]
        if last.region == piece.region, last.address + UInt64(last.byteCount) == piece.address {
          pieces[start + count - 1].byteCount += piece.byteCount
          continue
        }
        if last.byteCount % device.blockByteCount != 0 { areWhole = false }
      }
      pieces[start + count] = piece
      count += 1
    }
    // The whole is of whole blocks, and so is the last if all others are.
    request.partCount = UInt16(count)
    let isWorthwhile =
      count == 1 || Int(request.byteCount) / count >= Self.worthwhileByteCount
    request.isCopied =
      !takesPieces || (!isRead && copiesWrites) || !areWhole || !isWorthwhile
  }

  private func collectRanges(
    _ chain: DescriptorChain, _ byteCount: Int, into request: inout GuestRequest, slot: Int
  ) -> BlockRequestStatus? {
    guard
      unsafe chain.copyReadable(
        from: BlockRequestHeader.byteCount, to: scratch, byteCount: byteCount)
    else { return .failed }
    let start = rangeIndex(of: slot)
    let count = byteCount / BlockRange.byteCount
    for index in 0..<count {
      let place = unsafe scratch + index * BlockRange.byteCount
      let sector = unsafe UInt64(littleEndian: place.load(as: UInt64.self))
      let sectors = unsafe UInt32(littleEndian: (place + 8).load(as: UInt32.self))
      let flags = unsafe UInt32(littleEndian: (place + 12).load(as: UInt32.self))
      switch BlockRange.checked(
        sector: sector, count: sectors, flags: flags, kind: request.kind, of: device)
      {
      case .success(let range): ranges[start + index] = range
      case .failure(let refusal): return refusal.status
      }
    }
    request.partCount = UInt16(count)
    return nil
  }
}
