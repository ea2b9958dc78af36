import FabricBounded
public import FabricHostDriver
import FabricPlatform
public import FabricStorage
import FabricVerbs

extension VhostUserBlock {
  /// Requests taken from one queue before the next has its turn.
  private static let budget = 64

  // MARK: From the guest to the volume

  /// Takes what drivers have made available, as long as the volume takes requests; what it does not take stays
  /// in the rings. (VU-37)
  func pump() -> Int {
    guard let session, !session.isGone else { return 0 }
    if waiting >= 0 {
      guard issue(waiting) else { return 0 }
      waiting = -1
    }
    guard session.pending == nil, let parser, let memory = session.memory else { return 0 }
    var count = 0
    var step = 0
    let total = session.queueReferences.count
    while step < total, waiting < 0 {
      let index = firstQueue &+ step < total ? firstQueue &+ step : firstQueue &+ step &- total
      count &+= session.queueReferences[index].with { queue in
        guard session.isRunning(queue), let ring = queue.ringReference else { return 0 }
        return ring.with { take(from: $0, queue, parser, memory) }
      }
      step &+= 1
    }
    if count > 0 { firstQueue = firstQueue &+ 1 < total ? firstQueue &+ 1 : 0 }
    return count
  }

  private func take(
    from ring: SplitQueue, _ queue: DeviceQueue, _ parser: RequestParser, _ memory: GuestMemory
  ) -> Int {
    var count = 0
    do throws(QueueFault) {
      while count < Self.budget, waiting < 0, ring.hasAvailable, freeRequests.count > 0,
        volumeReference.with({ $0.freeCount }) > 0
      {
        guard let head = try ring.take() else { break }
        count &+= 1
        try chain.read(head, of: ring, memory)
        // There is one: that was asked.
        guard let slot = freeRequests.take() else { break }
        switch parser.parse(chain, slot: slot) {
        case .answered(_, let byteCount):
          freeRequests.give(slot)
          ring.give(head, byteCount: byteCount)
        case .unanswerable:
          freeRequests.give(slot)
          ring.give(head, byteCount: 0)
        case .request(var request):
          request.isTaken = true
          request.queue = UInt16(truncatingIfNeeded: queue.number)
          request.head = UInt16(truncatingIfNeeded: head)
          requests[slot] = request
          queue.requestCount &+= 1
          if !issue(slot) { waiting = slot }
        }
      }
    } catch {
      // Of no use until the front end starts it again.
      queue.isBroken = true
      queue.error?.signal()
      options.log("queue \(queue.number) of \(path) is broken: \(error)")
    }
    return count
  }

  /// Hands to the volume what is left of a request; false when it must wait for something.
  private func issue(_ slot: Int) -> Bool {
    let isDone: Bool
    switch requests[slot].kind {
    case .read, .write: isDone = issueData(slot)
    case .flush: isDone = submit(RemoteRequest(.flush, tag: UInt64(slot)), slot)
    default: isDone = issueRanges(slot)
    }
    if isDone {
      requests[slot].isIssued = true
      if requests[slot].commandCount == 0 { finish(slot) }
    }
    return isDone
  }

  private func submit(_ request: RemoteRequest, _ slot: Int) -> Bool {
    guard volumeReference.with({ $0.submit(request) }) else { return false }
    requests[slot].commandCount &+= 1
    return true
  }

  /// The unit may give the space of zeroes back whether the driver lets it or not: our protocol has no word for
  /// that. They read as zeroes either way. (VU-44)
  private func issueRanges(_ slot: Int) -> Bool {
    guard let parser else { return false }
    let isZeroes = requests[slot].kind == .writeZeroes
    while requests[slot].partIndex < requests[slot].partCount {
      let range = parser.ranges[parser.rangeIndex(of: slot) &+ Int(requests[slot].partIndex)]
      let request = RemoteRequest(
        isZeroes ? .writeZeroes : .deallocate, block: range.block, blockCount: range.blockCount,
        tag: UInt64(slot), flags: isZeroes ? writeFlags : [])
      guard submit(request, slot) else { return false }
      requests[slot].partIndex &+= 1
    }
    return true
  }

  /// A driver that cannot flush expects what was written to stay. (VU-42)
  private var writeFlags: BlockFlags {
    guard let session, !session.agreement.features.contains(.flush) else { return [] }
    return .forceUnitAccess
  }

  private func issueData(_ slot: Int) -> Bool {
    guard let parser, let copies else { return false }
    let blockByteCount = parser.device.blockByteCount
    while requests[slot].issuedByteCount < requests[slot].byteCount {
      guard volumeReference.with({ $0.freeCount }) > 0 else { return false }
      let request = requests[slot]
      let isRead = request.kind == .read
      var command = RemoteRequest(
        isRead ? .read : .write,
        block: request.block &+ UInt64(request.issuedByteCount / blockByteCount),
        tag: UInt64(slot), flags: isRead ? [] : writeFlags)
      let count: UInt32
      if request.isCopied {
        guard let index = copies.free.take() else { return false }
        count = min(request.byteCount &- request.issuedByteCount, UInt32(copies.pieceByteCount))
        copies.uses[index] = CopyBuffers.Use(offset: request.issuedByteCount, byteCount: count)
        if !isRead { copy(slot, index, parser, copies, toGuest: false) }
        command.data = copies.element(index, byteCount: Int(count))
        command.remoteKey = copies.region.remoteKey ?? RemoteKey(rawValue: 0)
        command.tag |= UInt64(index &+ 1) << 16
      } else {
        let piece = nextPiece(of: slot, parser, limit: UInt32(copies.pieceByteCount))
        count = piece.byteCount
        guard let memory = session?.memory else { return false }
        command.data = memory.element(piece)
        command.remoteKey = memory.remoteKey(piece)
      }
      command.blockCount = count / blockByteCount
      // There is room: that was asked.
      guard submit(command, slot) else { return false }
      requests[slot].issuedByteCount &+= count
    }
    return true
  }

  /// The next part of a request's data that goes to the fabric as it is: of whole blocks, as all of its pieces are.
  private func nextPiece(of slot: Int, _ parser: RequestParser, limit: UInt32) -> GuestPiece {
    var piece = parser.pieces[parser.pieceIndex(of: slot) &+ Int(requests[slot].partIndex)]
    let offset = requests[slot].partOffset
    piece.address &+= UInt64(offset)
    piece.byteCount &-= offset
    if piece.byteCount > limit {
      piece.byteCount = limit
      requests[slot].partOffset &+= limit
    } else {
      requests[slot].partIndex &+= 1
      requests[slot].partOffset = 0
    }
    return piece
  }

  /// Copies between one piece of the volume's memory and the request's own.
  private func copy(
    _ slot: Int, _ index: Int, _ parser: RequestParser, _ copies: CopyBuffers, toGuest: Bool
  ) {
    let use = copies.uses[index]
    var skip = use.offset
    var done: UInt32 = 0
    var place = parser.pieceIndex(of: slot)
    let end = place &+ Int(requests[slot].partCount)
    while done < use.byteCount, place < end {
      let piece = parser.pieces[place]
      place &+= 1
      if skip >= piece.byteCount {
        skip &-= piece.byteCount
        continue
      }
      let count = min(piece.byteCount &- skip, use.byteCount &- done)
      let guest = piece.address &+ UInt64(skip)
      let own =
        unsafe copies.region.bytes.baseAddress!
        + (index &* copies.pieceByteCount &+ Int(done))
      if toGuest {
        unsafe GuestCopy.put(own, to: guest, byteCount: Int(count))
      } else {
        unsafe GuestCopy.take(from: guest, to: own, byteCount: Int(count))
      }
      done &+= count
      skip = 0
    }
  }

  // MARK: From the volume to the guest

  public func remoteVolume(
    _ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>
  ) {
    for index in completions.indices { ended(completions[index]) }
    if isClosed { return endSessionIfDrained() }
    _ = pump()
    publish()
  }

  private func ended(_ completion: BlockCompletion) {
    let slot = Int(completion.tag & 0xFFFF)
    let copied = Int(completion.tag >> 16 & 0xFFFF) &- 1
    if copied >= 0, let copies, let parser {
      if completion.status == .success, requests[slot].kind == .read,
        let session, !session.isGone
      {
        copy(slot, copied, parser, copies, toGuest: true)
      }
      copies.free.give(copied)
    }
    // The first failure is the one that is told.
    if requests[slot].status == .success {
      requests[slot].status = BlockRequestStatus(completion.status)
    }
    requests[slot].commandCount &-= 1
    if requests[slot].isIssued, requests[slot].commandCount == 0 { finish(slot) }
  }

  private func count(_ request: GuestRequest) {
    switch request.kind {
    case .read:
      figures.readCount &+= 1
      figures.readByteCount &+= UInt64(request.byteCount)
    case .write:
      figures.writeCount &+= 1
      figures.writeByteCount &+= UInt64(request.byteCount)
    case .flush: figures.flushCount &+= 1
    default: figures.zeroingCount &+= 1
    }
    if request.status != .success { figures.errorCount &+= 1 }
  }

  /// Gives a request back to its queue. Of a front end that is gone it stays under way: who comes next does it
  /// again. (VU-54)
  func finish(_ slot: Int) {
    let request = requests[slot]
    count(request)
    requests[slot].isTaken = false
    freeRequests.give(slot)
    guard let session else { return }
    session.queueReferences[Int(request.queue)].with { queue in
      queue.requestCount &-= 1
      guard !session.isGone, let ring = queue.ringReference else { return }
      GuestCopy.put(request.status.rawValue, to: request.statusAddress)
      // Behind a read's data; of others nothing else is written.
      let isRead = request.kind == .read
      let isWhole = request.status == .success || !isRead
      ring.with {
        $0.give(
          Int(request.head), byteCount: isWhole ? (isRead ? request.byteCount &+ 1 : 1) : 0)
      }
    }
  }

  /// Tells drivers of the ends of requests, and calls those who want it: once for a batch. (VU-34)
  func publish() {
    guard let session, !session.isGone else { return }
    var index = 0
    while index < session.queueReferences.count {
      session.queueReferences[index].with { queue in
        guard let ring = queue.ringReference else { return }
        if ring.with({ $0.hasBatch && $0.publish() }) { queue.call?.signal() }
      }
      index &+= 1
    }
  }
}
