import FabricPlatform
import FabricWire

extension VhostUserBlock {
  /// Carries out a message. Who asked for an answer gets one. (VU-12)
  func carryOut(
    _ request: FrontEndRequest, _ header: MessageHeader, _ descriptors: [PassedDescriptor],
    _ session: GuestSession
  ) {
    if answer(request, header, session) { return }
    do throws(VhostUserFault) {
      try change(request, descriptors, session)
    } catch { return refuse(error, header, session) }
    if header.wantsReply, session.agreement.protocolFeatures.contains(.replyOnDemand) {
      acknowledge(header, isDone: true, session)
    }
  }

  func answer(
    _ header: MessageHeader, byteCount: Int, descriptors: [CInt] = [], _ session: GuestSession,
    _ write: (WireBuffer) -> Void
  ) {
    do throws(Errno) {
      try session.socket.reply(
        to: header.code, byteCount: byteCount, descriptors: descriptors, write)
    } catch {
      options.log("process \(session.processID) at \(path) takes no answer: \(error)")
      hangUp()
    }
  }

  private func answer(_ word: UInt64, _ header: MessageHeader, _ session: GuestSession) {
    answer(header, byteCount: 8, session) { $0.set(word, at: 0) }
  }

  /// What has an answer of its own. False: the request has none.
  private func answer(
    _ request: FrontEndRequest, _ header: MessageHeader, _ session: GuestSession
  ) -> Bool {
    switch request {
    case .getFeatures: answer(session.agreement.offered.rawValue, header, session)
    case .getProtocolFeatures: answer(ProtocolFeatures.offered.rawValue, header, session)
    case .getQueueCount: answer(UInt64(options.queueCount), header, session)
    case .getMemorySlotCount: answer(UInt64(VhostUser.regionLimit), header, session)
    case .getQueueBase(let number):
      let queue = session.queues[number]
      let base = queue.ring?.availableIndex ?? queue.base
      queue.base = base
      if let kick = queue.kick { poller.remove(kick.number) }
      queue.stop()
      answer(header, byteCount: 8, session) {
        $0.set(UInt32(number), at: 0)
        $0.set(UInt32(base), at: 4)
      }
    case .getConfiguration(let offset, let byteCount, let flags):
      let device = device
      answer(header, byteCount: 12 + byteCount, session) {
        $0.set(UInt32(offset), at: 0)
        $0.set(UInt32(byteCount), at: 4)
        $0.set(flags, at: 8)
        if byteCount > 0 {
          device?.writeConfiguration(from: offset, into: $0.slice(12, byteCount))
        }
      }
    case .getInflightMemory(let wanted, let payloadByteCount):
      giveInflightMemory(wanted, payloadByteCount, header, session)
    default: return false
    }
    return true
  }

  private func giveInflightMemory(
    _ wanted: InflightDescription, _ payloadByteCount: Int, _ header: MessageHeader,
    _ session: GuestSession
  ) {
    let byteCount = InflightMemory.byteCount(
      queueCount: Int(wanted.queueCount), queueSize: Int(wanted.queueSize))
    do throws(Errno) {
      let file = try MemoryFile(name: "vhost-user-inflight", byteCount: byteCount)
      answer(
        header, byteCount: payloadByteCount, descriptors: [file.descriptor.rawValue], session
      ) {
        $0.clear()
        $0.set(UInt64(byteCount), at: 0)
        $0.set(wanted.queueCount, at: 16)
        $0.set(wanted.queueSize, at: 18)
      }
    } catch {
      refuse(.memory("making \(byteCount) bytes of inflight memory failed: \(error)"), session)
    }
  }

  /// What changes something, and has no answer of its own.
  private func change(
    _ request: FrontEndRequest, _ descriptors: [PassedDescriptor], _ session: GuestSession
  ) throws(VhostUserFault) {
    switch request {
    case .setFeatures(let features):
      if session.agreement.features.rawValue == 0, features.rawValue != 0 {
        options.log("process \(session.processID) uses \(path)")
      }
      session.agreement.features = features
    case .setProtocolFeatures(let features): session.agreement.protocolFeatures = features
    case .setOwner: break
    case .resetOwner: for queue in session.queues { queue.isEnabled = false }
    case .resetDevice:
      for queue in session.queues {
        if let kick = queue.kick { poller.remove(kick.number) }
        queue.stop()
        queue.isEnabled = false
        queue.base = 0
      }
    case .setMemoryTable(let table):
      var regions: [GuestRegion] = []
      for (index, description) in table.enumerated() {
        regions.append(try map(description, descriptors[index]))
      }
      try session.replaceMemory(regions)
    case .addMemoryRegion(let description):
      guard session.regions.count < VhostUser.regionLimit else { throw .value(.addMemoryRegion) }
      try session.replaceMemory(session.regions + [map(description, descriptors[0])])
    case .removeMemoryRegion(let description):
      let rest = session.regions.filter { region in
        let one = region.description
        return one.guestAddress != description.guestAddress
          || one.userAddress != description.userAddress || one.byteCount != description.byteCount
      }
      guard rest.count == session.regions.count - 1 else { throw .value(.removeMemoryRegion) }
      try session.replaceMemory(rest)
    case .setBackEndSocket:
      do throws(Errno) {
        session.backEndSocket = try StreamSocket(passed: descriptors[0])
      } catch { throw .value(.setBackEndSocket) }
    case .setConfiguration: throw .value(.setConfiguration)
    case .setInflightMemory(let description):
      guard session.queues.allSatisfy({ $0.ring == nil }) else { throw .order(.setInflightMemory) }
      session.inflight = try InflightMemory.map(description, of: descriptors[0])
    default: try changeQueue(request, descriptors.first, session)
    }
  }

  private func map(
    _ description: RegionDescription, _ file: PassedDescriptor
  ) throws(VhostUserFault) -> GuestRegion {
    try GuestRegion.map(
      description, of: file, takesUnsealed: options.takesUnsealedMemory,
      for: takesForeignMemory ? volume : nil)
  }

  private func changeQueue(
    _ request: FrontEndRequest, _ descriptor: PassedDescriptor?, _ session: GuestSession
  ) throws(VhostUserFault) {
    switch request {
    case .setQueueSize(let number, let size):
      guard session.queues[number].ring == nil else { throw .order(.setQueueSize) }
      session.queues[number].size = size
    case .setQueueAddresses(let number, let addresses):
      guard session.queues[number].ring == nil else { throw .order(.setQueueAddresses) }
      session.queues[number].addresses = addresses
    case .setQueueBase(let number, let base):
      guard session.queues[number].ring == nil else { throw .order(.setQueueBase) }
      session.queues[number].base = base
    case .setQueueEnabled(let number, let isEnabled):
      guard session.agreement.features.contains(.protocolFeatures) else {
        throw .notAgreed(.setQueueEnabled)
      }
      session.queues[number].isEnabled = isEnabled
    case .setQueueKick(let number, _):
      let queue = session.queues[number]
      let event = try Self.event(descriptor, .setQueueKick)
      if let old = queue.kick { poller.remove(old.number) }
      queue.kick = event
      if let event {
        do throws(Errno) {
          try poller.addEdges(event.number, tag: Tag.kick + UInt64(number))
        } catch {
          queue.kick = nil
          throw .memory("watching a queue's descriptor failed: \(error)")
        }
      }
      queue.isStarted = true
      do throws(VhostUserFault) { try session.start(queue) } catch {
        queue.isStarted = false
        throw error
      }
    case .setQueueCall(let number, _):
      let event = try Self.event(descriptor, .setQueueCall)
      session.queues[number].call = event
      // Calls may have gone to the one before.
      if session.queues[number].ring != nil { event?.signal() }
    case .setQueueError(let number, _):
      session.queues[number].error = try Self.event(descriptor, .setQueueError)
    default: break
    }
  }

  /// What kicks and calls go by: nothing that could keep this thread. (VU-14)
  private static func event(
    _ descriptor: PassedDescriptor?, _ code: VhostUser.Code
  ) throws(VhostUserFault) -> PassedDescriptor? {
    guard let descriptor else { return nil }
    guard descriptor.isEvent, (try? descriptor.neverWait()) != nil else { throw .value(code) }
    return descriptor
  }

  /// Tells the front end that the configuration has changed, which then asks for it. (VU-46)
  func notifyOfConfiguration() {
    guard let session, !session.isGone, let socket = session.backEndSocket,
      session.agreement.protocolFeatures.contains(.configuration)
    else { return }
    do throws(Errno) {
      try FrontEndSocket.send(
        MessageHeader(code: VhostUser.configurationChanged, flags: 0, byteCount: 0), to: socket)
    } catch {
      options.log("process \(session.processID) at \(path) was not told of the new size: \(error)")
      session.backEndSocket = nil
    }
  }
}
