import FabricBounded
public import FabricCompletion
import FabricMessaging
import FabricNIC
import FabricPlatform
import FabricVerbs
import FabricWire

/// From the interface to the unit. (NI-14, NI-15)
extension HostNIC: ProgressSource {
  /// What one round takes, so that completions come in between.
  private static let roundSlotCount = 4

  public func progress() -> Int {
    guard waiting == nil, let channel, channel.isOpen, port.isReadable else { return 0 }
    let limit = min(slots.byteCount, channel.peerBufferByteCount)
    var count = 0
    for _ in 0..<Self.roundSlotCount {
      guard let slot = slots.free.take() else { break }
      let run = port.read(into: slots.buffer(slot).slice(0, limit))
      guard run.frameCount > 0 else {
        slots.free.give(slot)
        break
      }
      count &+= run.frameCount
      guard post((slot, run), on: channel) else { break }
    }
    if count > 0 { channel.flush() }
    return count
  }

  /// Sends what a slot holds: in a message where it is short, else as a write to a buffer of the unit's.
  ///
  /// - Returns: false when there was no credit; it waits.
  private func post(_ filled: (slot: Int, run: FrameRun), on channel: Channel) -> Bool {
    let run = filled.run
    let kind = NICMessageKind.frames.rawValue
    let view = slots.buffer(filled.slot).view.slice(0, run.byteCount)
    let isShort = run.byteCount <= channel.maximumPayloadByteCount
    let refusal =
      isShort
      ? channel.send(kind: kind, tag: UInt32(run.frameCount), payload: view)
      : channel.transfer(
        kind: kind, tag: UInt32(run.frameCount), payload: view.slice(0, 0),
        data: ScatterGatherElement(
          address: slots.address(of: filled.slot), byteCount: UInt32(run.byteCount),
          localKey: region.localKey),
        token: UInt64(filled.slot))
    guard refusal == nil else {
      statistics.stallCount &+= 1
      waiting = filled
      return false
    }
    if isShort { slots.free.give(filled.slot) }
    statistics.sentMessageCount &+= 1
    statistics.transferCount &+= isShort ? 0 : 1
    statistics.sentFrameCount &+= UInt64(run.frameCount)
    statistics.sentByteCount &+= UInt64(run.frameByteCount)
    return true
  }

  /// There is credit again.
  func canSend() {
    sendControls()
    guard let filled = waiting, let channel else { return }
    waiting = nil
    _ = post(filled, on: channel)
  }

  public var descriptor: CInt? { port.descriptor }

  public func arm() {
    // While the channel takes nothing the channel wakes.
    if channel != nil, waiting == nil, slots.free.count > 0 {
      if !port.arm() { port.signal() }
    }
  }

  public func disarm() { port.disarm() }
}

/// From the unit to the interface.
extension HostNIC {
  func received(_ messages: Span<IncomingMessage>, over channel: Channel) {
    for index in messages.indices {
      let message = messages[index]
      let isSound =
        if message.kind == NICMessageKind.frames.rawValue, !message.isPushCompletion {
          deliver(message, over: channel)
        } else { isSoundControl(message) }
      guard isSound else {
        options.log("the unit sent a message that the protocol does not know")
        return channel.close()
      }
      guard self.channel === channel else { return }
    }
  }

  private func deliver(_ message: IncomingMessage, over channel: Channel) -> Bool {
    guard let buffer = message.buffer else { return deliver(message.payload) }
    let place = unsafe UnsafeRawPointer(bitPattern: UInt(buffer.address))
    let isSound = deliver(unsafe WireView(place!, byteCount: buffer.byteCount))
    channel.returnBuffer(buffer.id)
    return isSound
  }

  private func deliver(_ view: WireView) -> Bool {
    var offset = 0
    while offset < view.byteCount {
      guard let frame = Frame(in: view, at: offset) else { return false }
      offset &+= frame.recordByteCount
      if let fault = frame.fault(mtu: mtu) {
        fault.count(in: &statistics)
      } else if port.write(frame) {
        statistics.receivedFrameCount &+= 1
        statistics.receivedByteCount &+= UInt64(frame.byteCount)
      } else {
        statistics.refusedCount &+= 1
      }
    }
    return true
  }

  private func isSoundControl(_ message: IncomingMessage) -> Bool {
    guard message.buffer == nil, !message.isPushCompletion else { return false }
    switch NICMessageKind(rawValue: message.kind) {
    case .link:
      guard let link = try? LinkNotice(decoding: message.payload) else { return false }
      adopt(link)
    case .addressAnswer:
      guard let answer = try? AddressAnswer(decoding: message.payload) else { return false }
      return answered(answer)
    case .statisticsQuery:
      // More than so many at once is no question any more.
      if waitingControls.count < 16 { send(.statistics, statistics.encoded) }
    case .statistics:
      guard let counted = try? NICStatistics(decoding: message.payload), !askers.isEmpty else {
        return false
      }
      askers.removeFirst()(counted)
    default: return false
    }
    return true
  }

  /// False when nothing was asked.
  private func answered(_ answer: AddressAnswer) -> Bool {
    guard let granted, answer.address == claimed else { return false }
    claimed = nil
    if answer.isGranted {
      self.granted = answer.address
      options.log("the unit takes frames from \(answer.address) now")
    } else {
      options.log(
        "the unit does not take frames from \(answer.address): another host has it; \(granted) again"
      )
      try? port.interface.setAddress(granted)
    }
    return true
  }
}
