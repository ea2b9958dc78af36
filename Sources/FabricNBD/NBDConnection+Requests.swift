import FabricBounded
import FabricFrontEnds
import FabricNBDProtocol
import FabricStorage
import FabricWire

extension NBDConnection {
  /// A read at least so long is looked up in the file's map first: it may be a hole. (NB-31)
  private static let holeLookupByteCount: UInt32 = 64 << 10
  /// Requests without data go to the store in pieces of at most so many bytes, so that a store that
  /// fills memory does not keep the thread.
  private static let pieceByteLimit: UInt32 = 16 << 20
  /// So many looks at a file's map, each of some hundred system calls at most, are made in one turn.
  private static let statusLimit = 8

  /// Takes as many requests as there are whole, from `start` on.
  ///
  /// - Returns: how many bytes were consumed.
  func takeRequests(_ bytes: WireView, from first: Int) -> Int {
    var start = first
    var statusCount = 0
    while phase == .transmission {
      if statusCount == Self.statusLimit {
        stream.yield()
        return start
      }
      let left = bytes.byteCount &- start
      if skippedByteCount > 0 {
        let part = min(skippedByteCount, left)
        skippedByteCount &-= part
        start &+= part
        if skippedByteCount > 0 { return start }
        continue
      }
      if stream.isResting { return start }
      guard left >= NBD.requestByteCount else {
        stream.neededByteCount = NBD.requestByteCount
        return start
      }
      guard let request = NBDRequest(bytes.slice(start, NBD.requestByteCount)) else {
        violation("expected a request, got another magic number")
        return start
      }
      if let code = request.refusal(under: rules) {
        start &+= NBD.requestByteCount
        // The payload comes all the same. (NB-23)
        skippedByteCount = request.payloadByteCount
        refuse(request, code)
        continue
      }
      let here = min(left &- NBD.requestByteCount, request.payloadByteCount)
      let payload = bytes.slice(start &+ NBD.requestByteCount, here)
      guard begin(request, payload) else {
        guard lacksMemory else { return start }
        lacksMemory = false
        start &+= NBD.requestByteCount
        skippedByteCount = request.payloadByteCount
        refuse(request, .noMemory)
        continue
      }
      if request.command == .blockStatus { statusCount += 1 }
      start &+= NBD.requestByteCount
      // What is missing of a payload goes straight to its buffer.
      if here < request.payloadByteCount { return start }
      start &+= here
    }
    return start
  }

  /// Carries a request out, as far as that goes at once. False when something is short: it is to be
  /// looked at again, and input rests until then.
  private func begin(_ request: NBDRequest, _ payload: WireView) -> Bool {
    guard let command = request.command else { return true }
    switch command {
    case .read: return beginRead(request)
    case .write: return beginWrite(request, payload)
    case .disconnect:
      phase = .disconnecting
      closeIfIdle()
    case .cache:
      // Advice that there is nothing to be done about.
      reply(request.cookie, error: 0)
    case .blockStatus: replyStatus(request)
    case .flush, .trim, .writeZeroes:
      guard let number = takeSlot(request, command) else { return false }
      submitOrDefer(number)
    }
    return true
  }

  private func beginRead(_ request: NBDRequest) -> Bool {
    guard let port else { return true }
    if let address = port.directAddress(
      block: request.offset >> blockShift, blockCount: request.length >> UInt32(blockShift))
    {
      replyData(request.cookie, request.offset, request.length, at: address, token: nil)
      return true
    }
    if rules.hasStructuredReplies, request.length >= Self.holeLookupByteCount, isHole(request) {
      NBDReply.hole(
        cookie: request.cookie, offset: request.offset, byteCount: request.length,
        into: stream.header(byteCount: NBDReply.holeByteCount))
      return true
    }
    guard let number = takeSlot(request, .read) else { return false }
    guard takeBuffer(number) else { return false }
    submitOrDefer(number)
    return true
  }

  private func beginWrite(_ request: NBDRequest, _ payload: WireView) -> Bool {
    guard let number = takeSlot(request, .write) else { return false }
    guard takeBuffer(number), let buffer = slots[number].buffer else { return false }
    if payload.byteCount < request.payloadByteCount {
      placedSlot = number
      stream.place(byteCount: request.payloadByteCount, at: buffer.address)
      return true
    }
    let target = unsafe UnsafeMutableRawPointer(bitPattern: UInt(buffer.address))!
    unsafe target.copyMemory(
      from: payload.rawBytes.baseAddress!, byteCount: payload.byteCount)
    submitOrDefer(number)
    return true
  }

  func streamDidPlace(_ stream: ServedStream) { submitOrDefer(placedSlot) }

  /// Gives a slot its buffer. False when there is none: the slot is given back.
  private func takeBuffer(_ number: Int) -> Bool {
    guard let buffer = frontEnd.buffers.take(Int(slots[number].length), for: holding) else {
      slots[number].isTaken = false
      freeSlots.give(number)
      lacksMemory = frontEnd.buffers.isExhausted
      if !lacksMemory { wait() }
      return false
    }
    slots[number].buffer = buffer
    return true
  }

  // MARK: To the port

  private func submitOrDefer(_ number: Int) {
    if deferred.isEmpty, submit(number) { return }
    deferred.push(number)
    wait()
  }

  /// Hands a slot's next step to the port. False when that has no room.
  func submit(_ number: Int) -> Bool {
    guard let port, let client else { return true }
    let slot = slots[number]
    var request = BlockRequest(
      .flush, block: slot.offset >> blockShift, tag: UInt64(number),
      flags: slot.flags.contains(.forceUnitAccess) ? .forceUnitAccess : [])
    var byteCount = slot.length
    switch slot.command {
    case .read, .write:
      request.operation = slot.command == .read ? .read : .write
      request.address = slot.buffer?.address ?? 0
      request.byteCount = slot.length
    case .writeZeroes, .trim:
      if slot.isFlushing {
        return port.submit(BlockRequest(.flush, tag: UInt64(number)), for: client)
      }
      byteCount = min(slot.length &- slot.doneByteCount, Self.pieceByteLimit)
      slots[number].pieceByteCount = byteCount
      request.block = (slot.offset &+ UInt64(slot.doneByteCount)) >> blockShift
      if slot.command == .trim {
        request.operation = .deallocate
        request.flags = []
      } else {
        request.operation = .writeZeroes
        if slot.flags.contains(.noHole) { request.flags.insert(.keepSpace) }
        if slot.flags.contains(.fastZero) { request.flags.insert(.onlyIfFast) }
      }
    case .flush, .disconnect, .cache, .blockStatus:
      return port.submit(BlockRequest(.flush, tag: UInt64(number)), for: client)
    }
    request.blockCount = byteCount >> UInt32(blockShift)
    return port.submit(request, for: client)
  }

  // MARK: What ended

  func port(_ port: ServedPort, ended completions: Span<BlockCompletion>) {
    guard phase != .gone else { return }
    for index in completions.indices {
      let completion = completions[index]
      finish(
        Int(truncatingIfNeeded: completion.tag & 0xFFFF_FFFF), completion.status,
        movedByteCount: completion.transferredByteCount)
    }
  }

  private func finish(_ number: Int, _ status: BlockStatus, movedByteCount: UInt32) {
    let slot = slots[number]
    switch slot.command {
    case .read: return finishRead(number, status, movedByteCount: movedByteCount)
    case .trim, .writeZeroes:
      if status == .success, continuePieces(number) { return }
    default: break
    }
    var status = status
    if slot.command == .flush || slot.isFlushing {
      status = settleFlush(status)
    } else {
      hasUnflushedWrites = true
    }
    reply(slot.cookie, error: NBD.ErrorCode(status)?.rawValue ?? 0)
    giveBack(number)
  }

  /// A piece of a request without data has ended: goes on with the next. False when that was all.
  private func continuePieces(_ number: Int) -> Bool {
    let slot = slots[number]
    if slot.isFlushing { return false }
    slots[number].doneByteCount = slot.doneByteCount &+ slot.pieceByteCount
    if slots[number].doneByteCount == slot.length {
      // The store has no trim that is durable by itself. (NB-25)
      guard slot.command == .trim, slot.flags.contains(.forceUnitAccess) else { return false }
      slots[number].isFlushing = true
    }
    submitOrDefer(number)
    return true
  }

  /// What a flush is to say. (NB-27)
  private func settleFlush(_ status: BlockStatus) -> BlockStatus {
    if status == .flushFailed, let port { table.spreadLoss(from: self, of: port.volume) }
    var result = status
    if owesFailure, status == .success { result = .flushFailed }
    owesFailure = false
    if status == .success { hasUnflushedWrites = false }
    return result
  }

  private func finishRead(_ number: Int, _ status: BlockStatus, movedByteCount: UInt32) {
    let slot = slots[number]
    guard let code = NBD.ErrorCode(status), let buffer = slot.buffer else {
      replyData(
        slot.cookie, slot.offset, slot.length, at: slot.buffer?.address ?? 0,
        token: UInt64(number))
      return
    }
    guard rules.hasStructuredReplies, status == .mediaReadError else {
      replyReadError(slot.cookie, code)
      return giveBack(number)
    }
    // What came before the bad block is good.
    if movedByteCount > 0 {
      NBDReply.data(
        cookie: slot.cookie, offset: slot.offset, byteCount: movedByteCount, isLast: false,
        into: stream.header(byteCount: NBDReply.dataHeaderByteCount))
      stream.data(
        address: buffer.address, byteCount: Int(movedByteCount), token: UInt64(number))
    }
    NBDReply.error(
      cookie: slot.cookie, code: code.rawValue, offset: slot.offset &+ UInt64(movedByteCount),
      into: stream.header(byteCount: NBDReply.errorOffsetByteCount))
    if movedByteCount == 0 { giveBack(number) }
  }

  /// Data of reads is with the kernel.
  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>) {
    for index in tokens.indices { giveBack(Int(tokens[index])) }
    frontEnd.somethingCameFree()
  }

  // MARK: Extents

  private func isHole(_ request: NBDRequest) -> Bool {
    guard let store = port?.volume.store else { return false }
    let extent = store.extent(of: blocks(request))
    return !extent.isAllocated && extent.blockCount >= UInt64(request.length) >> blockShift
  }

  private func blocks(_ request: NBDRequest) -> Range<UInt64> {
    let first = request.offset >> blockShift
    return first..<(first &+ UInt64(request.length) >> blockShift)
  }

  /// (NB-33)
  private func replyStatus(_ request: NBDRequest) {
    guard let store = port?.volume.store else { return }
    var rest = blocks(request)
    let extents = table.extents
    let limit = request.flags.contains(.onlyOne) ? 1 : extents.count
    var count = 0
    while count < limit, !rest.isEmpty {
      let extent = store.extent(of: rest)
      extents[count] = NBDConnections.Extent(
        byteCount: UInt32(truncatingIfNeeded: extent.blockCount << blockShift),
        flags: extent.isAllocated ? 0 : NBD.holeThatReadsZero)
      rest = (rest.lowerBound &+ extent.blockCount)..<rest.upperBound
      count &+= 1
    }
    let bytes = stream.header(byteCount: NBDReply.statusByteCount(count))
    NBDReply.status(cookie: request.cookie, extentCount: count, into: bytes)
    for index in 0..<count {
      NBDReply.extent(
        index, byteCount: extents[index].byteCount, flags: extents[index].flags, into: bytes)
    }
  }

  // MARK: Replies

  private func reply(_ cookie: UInt64, error: UInt32) {
    NBDReply.simple(
      cookie: cookie, error: error,
      into: stream.header(byteCount: NBD.simpleReplyByteCount))
  }

  private func replyData(
    _ cookie: UInt64, _ offset: UInt64, _ byteCount: UInt32, at address: UInt64, token: UInt64?
  ) {
    if rules.hasStructuredReplies {
      NBDReply.data(
        cookie: cookie, offset: offset, byteCount: byteCount, isLast: true,
        into: stream.header(byteCount: NBDReply.dataHeaderByteCount))
    } else {
      reply(cookie, error: 0)
    }
    stream.data(address: address, byteCount: Int(byteCount), token: token)
  }

  private func replyReadError(_ cookie: UInt64, _ code: NBD.ErrorCode) {
    guard rules.hasStructuredReplies else { return reply(cookie, error: code.rawValue) }
    NBDReply.error(
      cookie: cookie, code: code.rawValue,
      into: stream.header(byteCount: NBDReply.errorByteCount))
  }

  /// A structured error where the client may expect one only. (NB-32)
  private func refuse(_ request: NBDRequest, _ code: NBD.ErrorCode) {
    switch request.command {
    case .read, .blockStatus: replyReadError(request.cookie, code)
    // Nobody waits for an answer to it; a flag that it has not changes nothing.
    case .disconnect:
      phase = .disconnecting
      closeIfIdle()
    default: reply(request.cookie, error: code.rawValue)
    }
  }
}
