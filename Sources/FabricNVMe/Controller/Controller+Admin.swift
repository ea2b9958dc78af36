public import FabricPlatform
public import FabricWire

extension Controller {
  /// Carries out a command of the admin queue.
  ///
  /// - Parameter data: what the command brought, of as many bytes as its descriptor says.
  public func perform(_ command: Command, data: WireView?, at now: MonotonicTime) -> AdminOutcome {
    heard(at: now)
    if command.isFabrics { return performFabrics(command) }
    guard command.usesLists, !command.isFused else { return .done(.invalidField) }
    let known = kind == .io ? Opcode.Admin.all : Opcode.Admin.ofDiscovery
    guard known.contains(command.opcode) else { return .done(.invalidOpcode) }
    // Before it is enabled a controller is asked for nothing. (NVMe over Fabrics 1.1, section 3.3)
    guard isReady else { return .done(.commandSequenceError) }
    switch command.opcode {
    case Opcode.Admin.identify: return identify(command)
    case Opcode.Admin.getLogPage: return logPage(command, at: now)
    case Opcode.Admin.abort: return abort(command)
    case Opcode.Admin.setFeatures: return setFeature(command)
    case Opcode.Admin.getFeatures: return getFeature(command)
    case Opcode.Admin.asynchronousEventRequest: return awaitEvent(command)
    default: return .success
    }
  }

  // MARK: Fabrics

  /// Fabrics commands other than Connect, on the admin queue.
  private func performFabrics(_ command: Command) -> AdminOutcome {
    switch command.fabricsType {
    case Opcode.Fabrics.propertyGet: getProperty(command)
    case Opcode.Fabrics.propertySet: setProperty(command)
    // Once is enough. (NVMe over Fabrics 1.1, section 3.3)
    case Opcode.Fabrics.connect: .done(.commandSequenceError)
    // It is for I/O queues. (NVMe over Fabrics 1.1, section 3.6)
    case Opcode.Fabrics.disconnect: .done(.connectInvalidQueueType)
    default: .done(.invalidOpcode)
    }
  }

  private enum Property {
    static let capabilities: UInt32 = 0x00
    static let version: UInt32 = 0x08
    static let configuration: UInt32 = 0x14
    static let status: UInt32 = 0x1C
    static let reset: UInt32 = 0x20
  }

  /// What the controller can, as the register of that name. (Base 1.4, section 3.1.1)
  private var capabilities: UInt64 {
    let entries = UInt64(subsystem.options.queueDepth - 1)
    // Queues are contiguous; it is ready within 7.5 s; it has the NVM command set; pages of 4096 bytes.
    return entries | 1 << 16 | 15 << 24 | 1 << 37
  }

  private var status: UInt32 { (isReady ? 1 : 0) | shutdownStatus << 2 }

  private func getProperty(_ command: Command) -> AdminOutcome {
    let isLong = command.dword10 & 0x7 == 1
    guard command.dword10 & 0x7 <= 1 else { return .done(.invalidField) }
    switch (command.dword11, isLong) {
    case (Property.capabilities, true): return .done(.success, result: capabilities)
    case (Property.version, false): return .done(.success, result: UInt64(Self.version))
    case (Property.configuration, false): return .done(.success, result: UInt64(configuration))
    case (Property.status, false): return .done(.success, result: UInt64(status))
    // Nothing resets the whole subsystem.
    case (Property.reset, false): return .done(.success)
    default: return .done(.invalidField)
    }
  }

  private func setProperty(_ command: Command) -> AdminOutcome {
    guard command.dword10 & 0x7 == 0, command.dword11 == Property.configuration else {
      return .done(.invalidField)
    }
    configure(command.dword12)
    return .success
  }

  /// Enables, disables and shuts down. (Base 1.4, sections 3.1.5 and 3.1.6)
  private func configure(_ value: UInt32) {
    let wasEnabled = configuration & 1 == 1
    let isEnabled = value & 1 == 1
    configuration = value
    if isEnabled, !wasEnabled {
      isReady = true
      shutdownStatus = 0
    } else if wasEnabled, !isEnabled {
      reset()
    }
    // Normal and abrupt: nothing is kept that would have to be written first.
    if value >> 14 & 0x3 != 0 {
      shutdownStatus = 2
      giveUpEvents()
      endQueues()
    }
  }

  private func reset() {
    isReady = false
    features = Features()
    giveUpEvents()
    maskedEvents = []
    // A reset takes the I/O queues away. (Base 1.4, section 7.3.2)
    endQueues()
  }

  private func giveUpEvents() {
    // Requests for events end with the controller, without an answer. (Base 1.4, section 5.2)
    heldEvents.removeAll()
    adminLink?.forgetHeld()
    pendingEvents.removeAll()
  }
}
