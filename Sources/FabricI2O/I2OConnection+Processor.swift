import FabricBounded
import FabricFrontEnds
import FabricMessaging
import FabricStorage
import FabricWire

/// What the I/O processor itself is asked for. Rare: memory may be allocated.
extension I2OConnection {
  /// A buffer that an answer is written to; nil: there is none now, and the message is answered so.
  private func answerBuffer(_ slot: Int, byteCount: Int) -> WireBuffer? {
    guard let buffer = server.answers.take(byteCount, for: answerHolding) else {
      reply(slot, .fault(MessageFault(.insufficientResource, at: 0)))
      return nil
    }
    slots[slot].buffer = HeldBuffer(buffer: buffer, isAnswer: true)
    return unsafe WireBuffer(
      UnsafeMutableRawPointer(bitPattern: UInt(buffer.address))!, byteCount: byteCount)
  }

  // MARK: Status

  /// (IT-20)
  func answerStatus(_ slot: Int) {
    guard let buffer = answerBuffer(slot, byteCount: StatusBlock.byteCount) else { return }
    StatusBlock(
      state: translator.isOperational ? .operational : .reset, initCode: initCode,
      frameWordCount: UInt16(I2O.maximumFrameByteCount / 4), depth: UInt32(depth),
      tableByteCount: UInt32(DeviceTable.byteCount(visibleDevices().count))
    ).encode(into: buffer)
    push(slot, byteCount: UInt32(StatusBlock.byteCount), .push)
  }

  /// The host says that it takes replies, of which length. (IT-21)
  func answerOutbound(_ slot: Int, frameWordCount: UInt16, initCode: UInt8) {
    guard let buffer = answerBuffer(slot, byteCount: 4) else { return }
    // Not while something is under way, this message aside.
    let isAccepted =
      frameWordCount >= I2O.replyFrameWordCount && underWayCount == 1
    if isAccepted {
      translator.isOperational = true
      self.initCode = initCode
    }
    let status: I2O.OutboundStatus = isAccepted ? .complete : .rejected
    buffer.set(status.rawValue, at: 0)
    push(slot, byteCount: 4, .push)
  }

  // MARK: The table of devices

  /// In the order of their numbers.
  private func visibleDevices() -> [DeviceNumbers.Device] {
    let visible = frontEnd.volumes(for: hostName)
    return server.numbers.devices.filter { device in
      visible.contains { $0.volume === device.volume }
    }
  }

  /// At once, or when there is something that the host does not know. (IT-22, IT-23)
  func answerTable(_ slot: Int) {
    let indicator = server.numbers.changeIndicator
    guard slots[slot].knownIndicator != indicator else {
      slots[slot].phase = .waitingForChange
      return
    }
    let wanted = slots[slot].classIdentifier
    let isAny = wanted == I2O.anyClass || wanted & 0xFFF == UInt32(I2O.randomBlockStorage)
    let devices = isAny ? visibleDevices() : []
    let byteCount = min(
      DeviceTable.byteCount(devices.count), Int(slots[slot].byteCount),
      server.answers.maximumByteCount)
    guard byteCount >= DeviceTable.headByteCount else {
      return reply(slot, .fault(MessageFault(.replyBufferFull, at: 24)))
    }
    guard let buffer = answerBuffer(slot, byteCount: byteCount) else { return }
    let room = (byteCount - DeviceTable.headByteCount) / DeviceTable.entryByteCount
    DeviceTable.encodeHead(count: devices.count, changeIndicator: indicator, into: buffer)
    for (index, device) in devices.prefix(room).enumerated() {
      DeviceTable.encode(
        DeviceTable.Entry(
          number: device.number, changeIndicator: device.changeIndicator,
          identity: device.volume.identifier.low),
        into: buffer.slice(DeviceTable.byteCount(index), DeviceTable.entryByteCount))
    }
    let written = UInt32(DeviceTable.byteCount(min(room, devices.count)))
    push(slot, byteCount: written, .reply(.success(transferCount: written)))
  }

  /// The table of devices is another than before.
  func devicesChanged() {
    guard state == .open else { return }
    for slot in 0..<slots.count where slots[slot].phase == .waitingForChange { answerTable(slot) }
  }

  // MARK: Parameters

  /// (IT-50 to IT-52)
  func answerParameters(_ slot: Int, _ operations: WireView, at offset: Int, room: UInt64) {
    let number = slots[slot].header.target
    var facts: DeviceFacts?
    if number != I2O.processorTID {
      guard let (volume, access) = visible(number) else {
        return reply(slot, .failure(.invalidTarget))
      }
      facts = DeviceFacts(
        name: volume.name, identifier: volume.identifier,
        blockByteCount: volume.blockByteCount, byteCount: volume.byteCount,
        isReadOnly: access == .readOnly)
    }
    let limit = min(Int(clamping: room), server.answers.elementByteCount)
    guard let buffer = answerBuffer(slot, byteCount: limit) else { return }
    do throws(MessageFault) {
      let byteCount = UInt32(
        try ParameterLists.answer(operations, at: offset, facts: facts, into: buffer))
      push(slot, byteCount: byteCount, .reply(.success(transferCount: byteCount)))
    } catch {
      reply(slot, .fault(error))
    }
  }
}
