import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// What the initiator keeps of a request until it has ended.
struct SendEntry: BitwiseCopyable {
  var id: UInt64
  /// The line behind the record; the request is over once the target has consumed up to here.
  var endLine: UInt64
  var opcode: SendOpcode
  var isSignaled: Bool
}

/// What a read is to fetch, at the place of its entry.
struct ReadEntry: BitwiseCopyable {
  var elements: ScatterGatherList
  var remoteAddress: UInt64
}

/// Posting.
extension SharedMemoryQueuePair {
  /// Bytes up to which a message travels in its record even when not asked to: the copy costs less
  /// than the peer's look-up of where the bytes are.
  private static let eagerByteCount = 128

  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    switch state {
    case .readyToSend: break
    case .error: return try postFlushed(requests)
    default: throw PostError(acceptedCount: 0, reason: .notConnected)
    }
    let retired = retiredCount.load(ordering: .acquiring)
    let room = sendCapacity &- Int(truncatingIfNeeded: postedCount &- retired)
    let admitted = sendCompletionQueue.admission.admit(requests.count)
    var batch = Batch()
    var refusal: PostError.Reason?
    for index in requests.indices {
      if index >= room {
        refusal = .queueFull
      } else if index >= admitted {
        refusal = .completionQueueFull
      } else {
        if isDirect && index &+ 1 < requests.count { prefetchSource(of: requests[index &+ 1]) }
        refusal = write(requests[index], &batch)
      }
      if refusal != nil { break }
    }
    publish(batch)
    if let refusal {
      sendCompletionQueue.admission.withdraw(admitted &- batch.count)
      throw PostError(acceptedCount: batch.count, reason: refusal)
    }
  }

  /// Brings near what the next request copies to a direct peer, while this one's is copied.
  private func prefetchSource(of request: SendRequest) {
    let element = request.elements.first
    guard element.byteCount > Self.eagerByteCount else { return }
    prefetch(element.address, byteCount: min(Int(element.byteCount), Record.prefetchedByteCount))
  }

  /// Records of one post: the first one's word is stored last and publishes them all.
  /// (SM-11)
  private struct Batch {
    var count = 0
    var firstLine: UInt64 = 0
    var firstWord: UInt32 = 0
  }

  private func publish(_ batch: Batch) {
    guard batch.count > 0 else { return }
    // Pairs with the acquire in `retireSends`: entries before their number.
    publishedCount.store(postedCount, ordering: .releasing)
    // Pairs with the acquire in `receive`: records before the first one's word.
    unsafe SharedWord32(at: own.line(batch.firstLine)).storeReleasing(batch.firstWord)
    ringForReceives()
  }

  /// Wakes the peer if it sleeps and was not rung since it fell asleep.
  @inline(__always)
  func ringForReceives() {
    let armed = peer.armedForReceives.load()
    if armed & 1 != 0 && armed != lastRungForReceives {
      lastRungForReceives = armed
      connection.ring()
    }
  }

  /// Writes one record behind the others; returns why not, if not.
  @inline(__always)
  private func write(_ request: SendRequest, _ batch: inout Batch) -> PostError.Reason? {
    let byteCount = request.elements.byteCount
    let isInline = request.flags.contains(.inline)
    if isInline {
      guard byteCount <= Record.maximumInlineByteCount, request.opcode != .read else {
        return .tooLong
      }
    } else {
      let writing = request.opcode == .read
      guard domain.covers(request.elements.first, writing: writing),
        domain.covers(request.elements.second, writing: writing)
      else { return .invalidElement }
    }
    let carries = request.opcode != .read && (isInline || byteCount <= Self.eagerByteCount)
    let inlineOffset = Record.inlineOffset(request.opcode)
    let lines =
      carries ? Record.lineCount(inlineOffset: inlineOffset, byteCount: byteCount) : 1
    guard reserve(lines, &batch) else { return .queueFull }

    let line = unsafe own.line(producedLines)
    var word = Record.kind(request.opcode)
    clearLine(behind: lines)
    if carries {
      word |= Record.inlineFlag | UInt32(truncatingIfNeeded: byteCount) << 16
      unsafe copyInline(request.elements, to: line, offset: inlineOffset)
      if inlineOffset == Record.writeInlineOffset {
        unsafe RecordFields.writeTarget(request, to: line)
      }
    } else {
      if isDirect && placeDirectly(request) {
        word |= Record.placedFlag
      } else if request.opcode != .read {
        show(request.elements.first)
        show(request.elements.second)
      }
      unsafe RecordFields.write(request, to: line)
    }
    unsafe line.storeBytes(of: request.immediate, toByteOffset: 4, as: UInt32.self)
    place(word, lines, &batch)
    enter(request)
    batch.count &+= 1
    return nil
  }

  /// Lets the peer see the region that it is to copy from. (SM-6)
  @inline(__always)
  private func show(_ element: ScatterGatherElement) {
    guard element.byteCount > 0 else { return }
    let slot = Int(element.localKey.rawValue) & (Self.shownKeyCount &- 1)
    if unsafe shownKeys[slot] != element.localKey { showNow(element.localKey, slot) }
  }

  private func showNow(_ key: LocalKey, _ slot: Int) {
    if let segment = domain.segment(key) { announce(segment) }
    unsafe shownKeys[slot] = key
  }

  /// Writes a request's bytes straight into a direct peer's memory. False when that may not be: the
  /// target then copies, or refuses and says why. (SM-51, SM-52)
  private func placeDirectly(_ request: SendRequest) -> Bool {
    guard request.opcode == .write || request.opcode == .writeWithImmediate,
      // A read before it must still find what was there.
      readsPosted == readsFetched
    else { return false }
    return remoteWork.withLock { memory in
      // Pairs with the barrier in `waitForRemoteWork`: copying first, then the look at the key.
      own.copying.store(1)
      compilerBarrier()
      defer { own.copying.storeReleasing(0) }
      guard
        let target = memory.writablePlace(
          request.remoteAddress, UInt64(request.elements.byteCount), key: request.remoteKey,
          queuePairNumber: peerNumber)
      else { return false }
      unsafe copy(request.elements, to: UnsafeMutableRawPointer(bitPattern: UInt(target))!)
      return true
    }
  }

  /// Makes room for a record in one piece, with a padding record where the ring ends before it.
  @inline(__always)
  private func reserve(_ lines: Int, _ batch: inout Batch) -> Bool {
    let offset = Int(truncatingIfNeeded: producedLines) & (lineCount &- 1)
    let padding = offset &+ lines > lineCount ? lineCount &- offset : 0
    let end = producedLines &+ UInt64(padding &+ lines &+ 1)
    if end &- knownConsumedLines > UInt64(lineCount) {
      // Pairs with the release in `receive`: the peer has read those lines.
      let consumed = peer.consumed.loadAcquiring()
      guard consumed >= knownConsumedLines, consumed <= producedLines else {
        fail(.failure("the peer claims to have consumed what it cannot have"))
        return false
      }
      knownConsumedLines = consumed
      guard end &- knownConsumedLines <= UInt64(lineCount) else { return false }
    }
    if padding > 0 {
      clearLine(behind: padding)
      place(Record.padding | UInt32(padding) << 16, padding, &batch)
    }
    return true
  }

  /// Clears the word behind a record that is about to be written.
  @inline(__always)
  private func clearLine(behind lines: Int) {
    unsafe SharedWord32(at: own.line(producedLines &+ UInt64(lines))).store(0)
  }

  /// Ends a record: stores its word, at once or, for the batch's first, at publication.
  @inline(__always)
  private func place(_ word: UInt32, _ lines: Int, _ batch: inout Batch) {
    let line = unsafe own.line(producedLines)
    if batch.firstWord == 0 {
      batch.firstLine = producedLines
      batch.firstWord = word
    } else {
      unsafe SharedWord32(at: line).store(word)
    }
    producedLines &+= UInt64(lines)
  }

  /// Copies bytes into a record: its first line last, for the peer is looking at that one, and
  /// takes it away as often as it is written to at intervals.
  @inline(__always)
  private func copyInline(
    _ elements: ScatterGatherList, to line: UnsafeMutableRawPointer, offset: Int
  ) {
    let byteCount = Int(elements.first.byteCount)
    let front = 64 &- offset
    guard elements.second.byteCount == 0 && byteCount > front else {
      return unsafe copy(elements, to: line + offset)
    }
    let source = unsafe UnsafeRawPointer(bitPattern: UInt(elements.first.address))!
    unsafe copyShort(to: line + 64, from: source + front, byteCount: byteCount &- front)
    unsafe copyShort(to: line + offset, from: source, byteCount: front)
  }

  @inline(__always)
  private func copy(_ elements: ScatterGatherList, to place: UnsafeMutableRawPointer) {
    if elements.first.byteCount > 0 {
      unsafe copyShort(
        to: place, from: UnsafeRawPointer(bitPattern: UInt(elements.first.address))!,
        byteCount: Int(elements.first.byteCount))
    }
    if elements.second.byteCount > 0 {
      unsafe copyShort(
        to: place + Int(elements.first.byteCount),
        from: UnsafeRawPointer(bitPattern: UInt(elements.second.address))!,
        byteCount: Int(elements.second.byteCount))
    }
  }

  @inline(__always)
  private func enter(_ request: SendRequest) {
    let slot = Int(truncatingIfNeeded: postedCount) & (nextPowerOfTwoCapacity &- 1)
    let isSignaled = request.flags.contains(.signaled)
    unsafe sendEntries[slot] = SendEntry(
      id: request.id, endLine: producedLines, opcode: request.opcode, isSignaled: isSignaled)
    postedCount &+= 1
    if isSignaled || request.opcode == .read {
      signaledCount.store(signaledCount.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }
    if request.opcode == .read {
      readsPosted &+= 1
      unsafe readEntries[slot] = ReadEntry(
        elements: request.elements, remoteAddress: request.remoteAddress)
    }
  }

  /// A queue pair that has failed takes requests only to flush them.
  private func postFlushed(_ requests: Span<SendRequest>) throws(PostError) {
    for index in requests.indices {
      let retired = retiredCount.load(ordering: .acquiring)
      guard Int(truncatingIfNeeded: postedCount &- retired) < sendCapacity else {
        throw PostError(acceptedCount: index, reason: .queueFull)
      }
      guard sendCompletionQueue.admission.admit(1) == 1 else {
        throw PostError(acceptedCount: index, reason: .completionQueueFull)
      }
      // Behind every line the peer could have consumed.
      producedLines = .max / 2
      enter(requests[index])
      publishedCount.store(postedCount, ordering: .releasing)
    }
  }
}
