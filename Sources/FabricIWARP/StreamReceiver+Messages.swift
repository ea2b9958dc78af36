import FabricVerbs
import FabricWire

/// What a segment is to its message, and the message to its queue.
extension StreamReceiver {
  func takeTagged(
    _ header: SegmentHeader, _ event: inout StreamEvent
  ) throws(StreamViolation) {
    let byteCount = event.segmentByteCount
    guard !event.target.addingReportingOverflow(UInt64(byteCount)).overflow else {
      throw StreamViolation(TerminateCause.DDP.offsetWraps)
    }
    if header.opcode == .readResponse {
      event.kind = .readResponse
      event.isFirst = reads.isAtBeginning
      event.messageOffset = UInt32(truncatingIfNeeded: reads.doneByteCount)
      guard
        reads.take(key: event.key, offset: event.target, byteCount: byteCount, header.isLast)
      else { throw StreamViolation(TerminateCause.DDP.invalidKey) }
      return
    }
    event.isFirst = !isWriteOpen
    writeByteCount = (isWriteOpen ? writeByteCount : 0) + byteCount
    isWriteOpen = !header.isLast
    lastWriteByteCount = header.isLast ? writeByteCount : nil
  }

  /// - Returns: false when nothing is to be consumed yet.
  func takeUntagged(
    _ header: SegmentHeader, queue: UInt32, sequence: UInt32, isWhole: Bool, canReceive: Bool,
    _ event: inout StreamEvent
  ) throws(StreamViolation) -> Bool {
    guard queue == header.opcode.queue?.rawValue else {
      throw StreamViolation(TerminateCause.DDP.invalidQueue)
    }
    switch header.opcode {
    case .readRequest:
      try requireControl(header, sequence, nextReadRequest, event, ReadRequestHeader.byteCount)
      guard isWhole else { return later(.needsMore, &event) }
      guard unansweredReadCount < options.inboundReadDepth else {
        throw StreamViolation(TerminateCause.DDP.noReceive)
      }
      rememberReadRequest(event.payload)
      unansweredReadCount += 1
      nextReadRequest &+= 1
      event.kind = .readRequest
    case .terminate:
      try requireControl(header, sequence, 1, event, nil)
      guard isWhole else { return later(.needsMore, &event) }
      event.kind = .terminate
    case .immediate, .immediateWithSolicitedEvent:
      guard options.takesImmediate, !isSendOpen else {
        throw StreamViolation(TerminateCause.RDMAP.unexpectedOpcode)
      }
      try requireControl(header, sequence, nextSend, event, Self.immediateByteCount)
      guard isWhole else { return later(.needsMore, &event) }
      guard canReceive else { return later(.needsReceive, &event) }
      event.kind = .immediate
      event.immediate = event.payload.bigUInt64(at: 0)
      event.writeByteCount = lastWriteByteCount
      lastWriteByteCount = nil
      nextSend &+= 1
    default:
      return try takeSend(header, sequence, canReceive: canReceive, &event)
    }
    event.isFirst = true
    return true
  }

  private func takeSend(
    _ header: SegmentHeader, _ sequence: UInt32, canReceive: Bool, _ event: inout StreamEvent
  ) throws(StreamViolation) -> Bool {
    guard sequence == nextSend else {
      throw StreamViolation(TerminateCause.DDP.sequenceOutOfRange)
    }
    guard event.messageOffset == (isSendOpen ? sendOffset : 0) else {
      throw StreamViolation(TerminateCause.DDP.invalidOffset)
    }
    if isSendOpen {
      guard header.opcode == sendOpcode else {
        throw StreamViolation(TerminateCause.RDMAP.unexpectedOpcode)
      }
    } else {
      guard canReceive else { return later(.needsReceive, &event) }
      event.isFirst = true
      sendOpcode = header.opcode
      sendOffset = 0
    }
    let (end, wraps) = sendOffset.addingReportingOverflow(UInt32(event.segmentByteCount))
    guard !wraps else { throw StreamViolation(TerminateCause.DDP.messageTooLong) }
    event.kind = .send
    lastWriteByteCount = nil
    isSendOpen = !header.isLast
    sendOffset = end
    if header.isLast { nextSend &+= 1 }
    return true
  }

  /// What a message of one segment and, mostly, one length must be.
  private func requireControl(
    _ header: SegmentHeader, _ sequence: UInt32, _ expected: UInt32, _ event: StreamEvent,
    _ byteCount: Int?
  ) throws(StreamViolation) {
    guard sequence == expected else {
      throw StreamViolation(TerminateCause.DDP.sequenceOutOfRange)
    }
    guard event.messageOffset == 0, header.isLast else {
      throw StreamViolation(TerminateCause.DDP.invalidOffset)
    }
    guard event.segmentByteCount <= byteCount ?? TerminateMessage.maximumByteCount else {
      throw StreamViolation(TerminateCause.DDP.messageTooLong)
    }
    guard event.segmentByteCount == byteCount ?? event.segmentByteCount else {
      throw StreamViolation(TerminateCause.RDMAP.unspecifiedOperation)
    }
  }

  private func later(_ kind: StreamEvent.Kind, _ event: inout StreamEvent) -> Bool {
    event.kind = kind
    return false
  }
}
