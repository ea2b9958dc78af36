import FabricBounded
import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Checking keys and placing bytes, under `receiving`.
extension TCPQueuePair {
  /// The checks of a tagged segment, in order: the key exists, belongs to this connection, gives
  /// the right, and covers the bytes without wrap. Nil: it may be.
  private func refusal(
    _ key: RemoteKey, _ address: UInt64, _ byteCount: Int, _ right: AccessRights
  ) -> TerminateCause? {
    // Nothing is touched by no bytes, so there is no key to check.
    if byteCount == 0 { return nil }
    guard let record = remoteKeys.record(for: key) else {
      return TerminateCause.DDP.invalidKey
    }
    guard record.queuePairNumber == 0 || record.queuePairNumber == number else {
      return TerminateCause.DDP.keyOfAnotherConnection
    }
    guard record.access.contains(right) else { return TerminateCause.RDMAP.noRight }
    guard record.covers(address, UInt64(byteCount)) else { return TerminateCause.DDP.outOfBounds }
    return nil
  }

  /// Places a piece of an RDMA write; returns why not, if not. All of the segment is checked before
  /// its first byte.
  func placeWrite(_ event: StreamEvent) -> TerminateCause? {
    if let cause = refusal(event.key, event.target, event.segmentByteCount, .remoteWrite) {
      return cause
    }
    let count = event.payload.byteCount
    guard count > 0 else { return nil }
    unsafe copyShort(
      to: UnsafeMutableRawPointer(bitPattern: UInt(event.target))!,
      from: event.payload.rawBytes.baseAddress!, byteCount: count)
    return nil
  }

  /// Notes an RDMA read of the peer's; the transmitting side answers it.
  func takeReadRequest(_ event: StreamEvent) -> TerminateCause? {
    guard let request = event.readRequest else { return TerminateCause.RDMAP.unspecifiedOperation }
    let byteCount = Int(request.readByteCount)
    if let cause = refusal(request.sourceKey, request.sourceOffset, byteCount, .remoteRead) {
      return cause.asReadRequestFault
    }
    let region: MemoryRegion
    if byteCount == 0 {
      region = MemoryRegion(
        address: 0, byteCount: 0, access: [], localKey: LocalKey(rawValue: 0), remoteKey: nil,
        owner: nil)
    } else {
      guard let record = remoteKeys.record(for: request.sourceKey),
        let found = domain.region(of: record)
      else { return TerminateCause.RDMAP.invalidKey }
      region = found
    }
    transmitting.withLock {
      output.answers.append(Output.Answer(request: request, region: region))
      output.hasAnswers = true
      hasOutput.store(true, ordering: .relaxed)
    }
    return nil
  }

  /// Places a piece of the response to the oldest RDMA read.
  func placeReadResponse(_ event: StreamEvent) -> TerminateCause? {
    guard let read = inbound.reads.first else { return TerminateCause.RDMAP.unexpectedOpcode }
    guard covers(read.elements) else {
      readFailure.store(
        WorkCompletionStatus.localProtectionError.rawValue, ordering: .releasing)
      return TerminateCause.RDMAP.localCatastrophe
    }
    scatter(event.payload, to: read.elements, from: Int(event.target &- read.offset))
    guard event.isLast else { return nil }
    inbound.reads.popFirst()
    inbound.readCount &-= 1
    readsAnswered.add(1, ordering: .releasing)
    // What a fence or the read depth has held back may go on.
    hasOutput.store(true, ordering: .relaxed)
    sendMember.raise()
    return nil
  }

  /// Where payload of the segment under way may be read straight to; nil when it may not.
  func directPlace() -> Piece? {
    guard let place = receiver.directPlace else { return nil }
    let count = receiver.directByteCount
    switch place.kind {
    case .write:
      guard refusal(place.key, place.target, count, .remoteWrite) == nil else { return nil }
      return Piece(address: place.target, byteCount: count)
    case .send:
      guard let receive = inbound.current, covers(receive.elements) else { return nil }
      return receive.elements.pieces(Int(place.offset), atMost: count).first
    case .readResponse:
      guard let read = inbound.reads.first, covers(read.elements) else { return nil }
      return read.elements.pieces(Int(place.target &- read.offset), atMost: count).first
    default: return nil
    }
  }

  func covers(_ elements: ScatterGatherList) -> Bool {
    localKeys.covers(elements.first, writing: true)
      && localKeys.covers(elements.second, writing: true)
  }

  /// Copies bytes into a list's elements, beginning `offset` bytes into the list.
  func scatter(_ bytes: WireView, to elements: ScatterGatherList, from offset: Int) {
    guard bytes.byteCount > 0 else { return }
    if offset == 0 && bytes.byteCount <= Int(elements.first.byteCount) {
      return unsafe copyShort(
        to: UnsafeMutableRawPointer(bitPattern: UInt(elements.first.address))!,
        from: bytes.rawBytes.baseAddress!, byteCount: bytes.byteCount)
    }
    let (first, second) = elements.pieces(offset, atMost: bytes.byteCount)
    let source = unsafe bytes.rawBytes.baseAddress!
    if first.byteCount > 0 {
      unsafe copyShort(
        to: UnsafeMutableRawPointer(bitPattern: UInt(first.address))!, from: source,
        byteCount: first.byteCount)
    }
    if second.byteCount > 0 {
      unsafe copyShort(
        to: UnsafeMutableRawPointer(bitPattern: UInt(second.address))!,
        from: source + first.byteCount, byteCount: second.byteCount)
    }
  }

  /// Revokes the key that a send with invalidate names; false when the peer may not end it.
  func invalidate(_ key: RemoteKey) -> Bool {
    guard let record = remoteKeys.record(for: key),
      record.queuePairNumber == number
    else { return false }
    return remoteKeys.remove(key)
  }
}

extension TerminateCause {
  /// The same fault of an RDMA read's source, which RDMAP finds. (RFC 5040 section 7)
  var asReadRequestFault: TerminateCause {
    switch self {
    case TerminateCause.DDP.invalidKey: TerminateCause.RDMAP.invalidKey
    case TerminateCause.DDP.keyOfAnotherConnection: TerminateCause.RDMAP.keyOfAnotherConnection
    case TerminateCause.DDP.outOfBounds: TerminateCause.RDMAP.outOfBounds
    default: self
    }
  }
}
