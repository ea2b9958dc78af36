import FabricBounded
import FabricIOProtocol
import FabricMessaging
import FabricStorage
import FabricVerbs
import FabricWire

extension UnitConnection {
  /// Takes a command: from fabric memory a read is answered at once, everything else goes
  /// through the volume's port.
  func receive(_ message: IncomingMessage, over channel: Channel) {
    let command: CommandCapsule
    do throws(ProtocolFault) {
      command = try CommandCapsule(decoding: message.payload)
    } catch {
      return refuse(message, because: error, over: channel)
    }
    guard command.tag.rawValue == message.tag, command.tag.isValid else {
      return violation("a command's tag differs from its message's, or has 32 bits")
    }
    if let directKey, command.opcode == .read, message.buffer == nil, isOrdinary(command),
      place.delay == 0,
      let data = served.directElement(
        block: command.block, blockCount: command.blockCount, byteCount: command.byteCount,
        key: directKey),
      channel.push(
        data, to: command.remoteAddress, key: command.remoteKey,
        completing: command.tag.rawValue) == nil
    {
      return
    }
    guard let slot = freeSlots.take() else {
      return violation("more than the \(depth) commands agreed on are in flight")
    }
    slots[slot] = Slot(command: command)
    if let buffer = message.buffer {
      slots[slot].dataAddress = buffer.address
      slots[slot].bufferID = buffer.id
      slots[slot].hasBuffer = true
    }
    // The data that came is the data that was spoken of. (IO-31)
    let dataByteCount = message.buffer.map { UInt32(clamping: $0.byteCount) } ?? 0
    let expected = command.opcode.carriesData ? command.byteCount : 0
    if dataByteCount != expected || (message.buffer != nil) != command.opcode.carriesData
      || command.byteCount > maximumTransferByteCount
    {
      return ended(slot, status: .invalidField, transferredByteCount: 0)
    }
    if !deferred.isEmpty || !start(slot) { wait(slot) }
  }

  /// A read that the direct way may serve: the rest of the checks are the port's.
  @inline(__always)
  private func isOrdinary(_ command: CommandCapsule) -> Bool {
    command.byteCount > 0 && command.byteCount <= maximumTransferByteCount
  }

  /// Answers a capsule that says nothing sensible. (IO-33)
  private func refuse(
    _ message: IncomingMessage, because fault: ProtocolFault, over channel: Channel
  ) {
    guard let slot = freeSlots.take() else {
      return violation("more than the \(depth) commands agreed on are in flight")
    }
    slots[slot] = Slot(
      command: CommandCapsule(.flush, tag: RequestTag(rawValue: message.tag)))
    if let buffer = message.buffer {
      slots[slot].bufferID = buffer.id
      slots[slot].hasBuffer = true
    }
    var status = BlockStatus.invalidField
    if case .invalidField(_, "the opcode", _) = fault { status = .unsupported }
    ended(slot, status: status, transferredByteCount: 0)
  }

  // MARK: To the port

  private func wait(_ slot: Int) {
    deferred.push(slot)
    if !isWaiting {
      isWaiting = true
      shard.wait(self)
    }
  }

  /// Hands deferred commands to the port until something is short again.
  ///
  /// - Returns: whether all were handed over.
  func retryDeferred() -> Bool {
    while let slot = deferred.first {
      guard start(slot) else { return false }
      _ = deferred.pop()
    }
    return true
  }

  /// Hands a command to the port. False when the port is full or no element is free.
  private func start(_ slot: Int) -> Bool {
    let command = slots[slot].command
    var request = BlockRequest(
      command.opcode.operation, block: command.block, blockCount: command.blockCount,
      tag: Place(connection: number, slot: slot).rawValue, flags: command.flags, client: client)
    if command.opcode == .read {
      if slots[slot].element < 0 {
        guard let element = takeElement() else { return false }
        slots[slot].element = Int32(element)
      }
      request.address = shard.readPool.address(of: Int(slots[slot].element))
      request.byteCount = command.byteCount
    } else if command.opcode.carriesData {
      request.address = slots[slot].dataAddress
      request.byteCount = command.byteCount
    } else {
      // Anything but 0 is for the port to refuse.
      request.byteCount = command.byteCount
    }
    served.needsPoll = true
    return served.port.submit(request)
  }

  // MARK: Answers

  /// A command has ended: answers, at once or when the place's delay is over.
  func ended(_ slot: Int, status: BlockStatus, transferredByteCount: UInt32) {
    slots[slot].status = status
    slots[slot].transferredByteCount = transferredByteCount
    served.count(slots[slot].command.opcode, status, transferredByteCount)
    if slots[slot].command.opcode != .read {
      outcomes.record(
        slots[slot].command.tag, status, transferredByteCount: transferredByteCount)
    }
    if place.delay > 0, state == .ready {
      shard.delayedAnswers.add(slot, of: self)
    } else {
      answer(slot)
    }
  }

  /// Gives a command's buffer back and answers.
  func answer(_ slot: Int) {
    guard state == .ready, let channel else { return }
    if slots[slot].hasBuffer {
      slots[slot].hasBuffer = false
      channel.returnBuffer(slots[slot].bufferID)
    }
    shard.touch(self)
    if !replies.isEmpty || !sendReply(slot) { replies.push(slot) }
  }

  /// Sends a command's data and response. False when the channel has no room now.
  func sendReply(_ slot: Int) -> Bool {
    guard let channel else { return true }
    let entry = slots[slot]
    if entry.element >= 0, entry.transferredByteCount > 0 {
      let element = Int(entry.element)
      let data = shard.readPool.element(
        element, byteCount: Int(entry.transferredByteCount), key: readKey)
      let isWhole = entry.status == .success
      let refusal =
        isWhole
        ? channel.push(
          data, to: entry.command.remoteAddress, key: entry.command.remoteKey,
          completing: entry.command.tag.rawValue, token: UInt64(element))
        : channel.write(
          data, to: entry.command.remoteAddress, key: entry.command.remoteKey,
          token: UInt64(element))
      guard refusal == nil else { return refusal == .closed }
      // The channel has it until `finished`.
      shard.pushes[element] = UInt32(number)
      slots[slot].element = -1
      if isWhole {
        freeSlots.give(slot)
        return true
      }
    }
    let response = ResponseCapsule(
      tag: entry.command.tag, status: entry.status,
      transferredByteCount: entry.transferredByteCount)
    let refusal = unsafe withUnsafeTemporaryAllocation(
      byteCount: ResponseCapsule.byteCount, alignment: 8
    ) { bytes in
      let buffer = unsafe WireBuffer(bytes)
      response.encode(into: buffer)
      return channel.send(
        kind: MessageKind.response.rawValue, tag: response.tag.rawValue, payload: buffer.view)
    }
    guard refusal == nil else { return refusal == .closed }
    if slots[slot].element >= 0 {
      giveElement(Int(slots[slot].element))
      slots[slot].element = -1
    }
    freeSlots.give(slot)
    return true
  }

  /// The channel no longer needs an element.
  func pushed(_ element: Int) {
    guard element < shard.pushes.count, shard.pushes[element] == UInt32(number) else { return }
    shard.pushes[element] = UnitShard.nobody
    giveElement(element)
  }

  // MARK: Elements

  /// An element of the pool, unless this connection has as many as are free: a host that takes its
  /// data slowly, or not at all, leaves some to every other.
  private func takeElement() -> Int? {
    guard heldElementCount < shard.readPool.freeCount, let element = shard.readPool.take() else {
      return nil
    }
    heldElementCount &+= 1
    return element
  }

  func giveElement(_ element: Int) {
    heldElementCount &-= 1
    shard.readPool.give(element)
  }
}
