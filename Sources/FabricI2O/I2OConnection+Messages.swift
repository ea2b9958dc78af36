import FabricBounded
import FabricFrontEnds
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

extension I2OConnection {
  /// Takes one message: every one but NOP and what is no frame ends with one reply. (IT-4)
  func receive(_ message: IncomingMessage, over channel: Channel) {
    guard message.payload.byteCount <= I2O.maximumFrameByteCount else {
      return violation("a frame of \(message.payload.byteCount) bytes")
    }
    guard underWayCount < depth, let slot = freeSlots.take() else {
      return violation("more than the \(depth) messages agreed on are under way")
    }
    slots[slot] = Slot()
    var attached: WireView?
    if let buffer = message.buffer {
      slots[slot].hasReceived = true
      slots[slot].received = buffer.id
      attached = view(of: buffer)
    }
    // What is checked must stay as it is.
    let frame = unsafe WireBuffer(
      UnsafeMutableRawPointer(scratch.address), byteCount: I2O.maximumFrameByteCount
    ).slice(0, message.payload.byteCount)
    frame.copy(message.payload, at: 0)
    let translation = translator.translate(
      frame.view, attached: attached, header: &slots[slot].header, into: elements,
      from: slot &* I2O.maximumElementCount, device: { shape(of: $0) })
    carryOut(translation, slot, frame.view, message, over: channel)
  }

  private func view(of buffer: ReceivedBuffer) -> WireView? {
    guard let base = unsafe UnsafeRawPointer(bitPattern: UInt(buffer.address)) else { return nil }
    return unsafe WireView(base, byteCount: buffer.byteCount)
  }

  private func carryOut(
    _ translation: Translation, _ slot: Int, _ frame: WireView, _ message: IncomingMessage,
    over channel: Channel
  ) {
    switch translation {
    case .unreadable:
      violation("a message of \(frame.byteCount) bytes is no frame")
    case .nothing:
      returnReceived(slot)
      freeSlots.give(slot)
    case .failure(let code): reply(slot, .failure(code))
    case .fault(let fault): reply(slot, .fault(fault))
    case .transfer(let transfer): begin(transfer, slot, message)
    case .flush:
      guard attachDevice(slot) else { return }
      startOrDefer(slot)
    case .abort(let request): abort(request, slot)
    case .parameters(let offset, let byteCount, let elementCount, let room):
      slots[slot].elementCount = Int32(elementCount)
      answerParameters(slot, frame.slice(offset, byteCount), at: offset, room: room)
    case .table(let classIdentifier, let knownIndicator, let elementCount, let room):
      slots[slot].elementCount = Int32(elementCount)
      slots[slot].classIdentifier = classIdentifier
      slots[slot].knownIndicator = knownIndicator
      slots[slot].byteCount = UInt32(clamping: room)
      answerTable(slot)
    case .status:
      slots[slot].elementCount = 1
      answerStatus(slot)
    case .outbound(let frameWordCount, let code):
      slots[slot].elementCount = 1
      answerOutbound(slot, frameWordCount: frameWordCount, initCode: code)
    }
  }

  // MARK: Blocks

  private func attachDevice(_ slot: Int) -> Bool {
    guard let device = attach(slots[slot].header.target) else {
      reply(slot, .fault(MessageFault(.deviceNotAvailable, at: 4)))
      return false
    }
    slots[slot].device = Int32(truncatingIfNeeded: device)
    return true
  }

  private func begin(_ transfer: BlockTransfer, _ slot: Int, _ message: IncomingMessage) {
    guard Int(transfer.byteCount) <= frontEnd.buffers.elementByteCount else {
      return reply(slot, .fault(MessageFault(.messageTooLarge, at: 20)))
    }
    guard attachDevice(slot) else { return }
    slots[slot].operation = transfer.operation
    slots[slot].flags = transfer.flags
    slots[slot].block = transfer.block
    slots[slot].blockCount = transfer.blockCount
    slots[slot].byteCount = transfer.byteCount
    slots[slot].logicalByteAddress = transfer.logicalByteAddress
    slots[slot].elementCount = Int32(truncatingIfNeeded: transfer.elementCount)
    if let buffer = message.buffer {
      // Where it begins, until it is known that the pieces must be brought together.
      slots[slot].attachedAddress = buffer.address
      if let offset = transfer.attachedOffset {
        slots[slot].attachedAddress = buffer.address &+ offset
        slots[slot].elementCount = 0
      }
    }
    if transfer.operation == .read { returnReceived(slot) }
    startOrDefer(slot)
  }

  private func startOrDefer(_ slot: Int) {
    if deferred.isEmpty, start(slot) { return }
    slots[slot].phase = .waiting
    deferred.push(slot)
    if isWaiting { return }
    isWaiting = true
    frontEnd.wait(self)
  }

  func retry() -> Bool {
    while let slot = deferred.first {
      guard start(slot) else { return false }
      _ = deferred.pop()
    }
    isWaiting = false
    return true
  }

  /// Hands a message to its volume's port. False when that has no room or there is no buffer.
  private func start(_ slot: Int) -> Bool {
    guard let device = devices[Int(slots[slot].device)] else { return true }
    let operation = slots[slot].operation
    var request = BlockRequest(
      operation, block: slots[slot].block, blockCount: slots[slot].blockCount, tag: UInt64(slot),
      flags: slots[slot].flags)
    if operation.movesData {
      request.byteCount = slots[slot].byteCount
      if operation == .read || slots[slot].elementCount > 0 {
        guard takeBuffer(slot, byteCount: Int(slots[slot].byteCount)) else {
          guard frontEnd.buffers.isExhausted else { return false }
          reply(slot, .fault(MessageFault(.insufficientResource, at: 0)))
          return true
        }
        if operation == .write { gather(slot) }
        request.address = slots[slot].buffer?.address ?? 0
      } else {
        request.address = slots[slot].attachedAddress
      }
    }
    slots[slot].phase = .atStore
    if device.port.with({ $0.submit(request, for: device.client) }) { return true }
    slots[slot].phase = .waiting
    return false
  }

  /// Gives a slot a buffer, unless it has one.
  func takeBuffer(_ slot: Int, byteCount: Int) -> Bool {
    if slots[slot].buffer != nil { return true }
    guard let buffer = frontEnd.buffers.take(byteCount, for: holding) else { return false }
    slots[slot].buffer = HeldBuffer(buffer: buffer)
    return true
  }

  /// Brings the pieces of a write together: from then on its data is where nobody else writes. (IT-42)
  private func gather(_ slot: Int) {
    guard slots[slot].hasReceived, let buffer = slots[slot].buffer else { return }
    var place = buffer.address
    let first = slot &* I2O.maximumElementCount
    for index in first..<first &+ Int(slots[slot].elementCount) {
      let element = elements[index]
      let source = slots[slot].attachedAddress &+ element.address
      unsafe UnsafeMutableRawPointer(bitPattern: UInt(place))!.copyMemory(
        from: UnsafeRawPointer(bitPattern: UInt(source))!, byteCount: Int(element.byteCount))
      place &+= UInt64(element.byteCount)
    }
    returnReceived(slot)
  }

  // MARK: What ended

  func port(_ port: ServedPort, ended completions: Span<BlockCompletion>) {
    guard state == .open else { return }
    for index in completions.indices {
      let completion = completions[index]
      ended(
        Int(truncatingIfNeeded: completion.tag & 0xFFFF_FFFF), completion.status,
        movedByteCount: completion.transferredByteCount)
    }
    server.touch(self)
  }

  private func ended(_ slot: Int, _ status: BlockStatus, movedByteCount: UInt32) {
    let operation = slots[slot].operation
    if slots[slot].phase == .abandoned {
      slots[slot].phase = .free
      giveBuffer(slot)
      freeSlots.give(slot)
      abandonedCount &-= 1
      return
    }
    if operation == .read, slots[slot].isAborted { return endAborted(slot) }
    var moved = movedByteCount
    if status == .success { moved = slots[slot].byteCount }
    moved = operation.movesData ? min(moved, slots[slot].byteCount) : 0
    let reply = ReplyFrame(
      status, of: operation, transferred: moved, address: slots[slot].logicalByteAddress)
    if operation == .read {
      push(slot, byteCount: moved, .reply(reply))
    } else {
      giveBuffer(slot)
      self.reply(slot, reply)
    }
  }

  /// Gives the data that came with a message back to the host.
  func returnReceived(_ slot: Int) {
    guard slots[slot].hasReceived else { return }
    slots[slot].hasReceived = false
    channel?.returnBuffer(slots[slot].received)
  }
}
