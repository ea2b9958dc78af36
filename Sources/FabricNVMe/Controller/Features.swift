/// What a host may set, and how it stands. (Base 1.4, section 5.21)
struct Features {
  enum Identifier {
    static let arbitration: UInt8 = 0x01
    static let powerManagement: UInt8 = 0x02
    static let temperatureThreshold: UInt8 = 0x04
    static let errorRecovery: UInt8 = 0x05
    static let volatileWriteCache: UInt8 = 0x06
    static let queueCount: UInt8 = 0x07
    static let writeAtomicity: UInt8 = 0x0A
    static let asynchronousEvents: UInt8 = 0x0B
    static let keepAlive: UInt8 = 0x0F
    static let hostIdentifier: UInt8 = 0x81
    static let writeProtection: UInt8 = 0x84
  }

  /// Degrees Kelvin; there is nothing to measure.
  static let defaultTemperature: UInt32 = 343

  var arbitration: UInt32 = 0
  var temperatureThreshold = Features.defaultTemperature
  var errorRecovery: UInt32 = 0
  var writeAtomicity: UInt32 = 0
  var asynchronousEvents: UInt32 = 0
  /// Of both kinds, from 0 on as in the command; nil: not asked for yet.
  var grantedQueues: UInt32?
}

extension Controller {
  /// Set Features. (Base 1.4, section 5.21)
  ///
  /// - Parameter data: what came with it.
  func setFeature(_ command: Command) -> AdminOutcome {
    let identifier = UInt8(truncatingIfNeeded: command.dword10)
    let value = command.dword11
    // Nothing is kept over the end of the controller.
    if command.dword10 >> 31 != 0 { return .done(.featureNotSaveable) }
    guard kind == .io || Self.discoveryFeatures.contains(identifier) else {
      return .done(.invalidField)
    }
    switch identifier {
    case Features.Identifier.arbitration: features.arbitration = value
    case Features.Identifier.powerManagement:
      // There is one power state.
      if value & 0x1F != 0 { return .done(.invalidField) }
    case Features.Identifier.temperatureThreshold:
      // That of the composite temperature, over it; others are not there.
      guard value >> 16 & 0xF == 0 || value >> 16 & 0xF == 0xF, value >> 20 & 0x3 == 0 else {
        return .done(.invalidField)
      }
      features.temperatureThreshold = value & 0xFFFF
    case Features.Identifier.errorRecovery: features.errorRecovery = value & 0xFFFF
    case Features.Identifier.volatileWriteCache:
      // It is on, and can be turned off by nobody: who wants a write kept says so or flushes.
      return value & 1 == 1 ? .success : .done(.featureNotChangeable)
    case Features.Identifier.queueCount: return setQueueCount(value)
    case Features.Identifier.writeAtomicity: features.writeAtomicity = value & 1
    case Features.Identifier.asynchronousEvents:
      features.asynchronousEvents = value
      deliverEvents()
    case Features.Identifier.keepAlive:
      setKeepAlive(milliseconds: value, at: lastHeard)
    // It was told when the host connected. (NVMe over Fabrics 1.1, section 4.2)
    case Features.Identifier.hostIdentifier: return .done(.commandSequenceError)
    case Features.Identifier.writeProtection: return .done(.featureNotChangeable)
    default: return .done(.invalidField)
    }
    return .success
  }

  private static let discoveryFeatures = [
    Features.Identifier.keepAlive, Features.Identifier.asynchronousEvents,
  ]

  private func setQueueCount(_ value: UInt32) -> AdminOutcome {
    // Once queues are there it is too late. (Base 1.4, section 5.21.1.7)
    if queueCount > 0 { return .done(.commandSequenceError) }
    guard value & 0xFFFF != 0xFFFF, value >> 16 != 0xFFFF else { return .done(.invalidField) }
    let most = UInt32(subsystem.options.queueCount - 1)
    let granted = min(value & 0xFFFF, most) | min(value >> 16, most) << 16
    features.grantedQueues = granted
    return .done(.success, result: UInt64(granted))
  }

  /// Get Features. (Base 1.4, section 5.14)
  func getFeature(_ command: Command) -> AdminOutcome {
    let identifier = UInt8(truncatingIfNeeded: command.dword10)
    let select = command.dword10 >> 8 & 0x7
    guard select <= 3 else { return .done(.invalidField) }
    guard kind == .io || Self.discoveryFeatures.contains(identifier) else {
      return .done(.invalidField)
    }
    if select == 3 { return .done(.success, result: Self.capabilities(of: identifier)) }
    // Saved is as by default: nothing is saved.
    let isDefault = select != 0
    let state = isDefault ? Features() : features
    switch identifier {
    case Features.Identifier.arbitration: return .done(.success, result: UInt64(state.arbitration))
    case Features.Identifier.powerManagement: return .success
    case Features.Identifier.temperatureThreshold:
      return .done(.success, result: UInt64(state.temperatureThreshold))
    case Features.Identifier.errorRecovery:
      return .done(.success, result: UInt64(state.errorRecovery))
    case Features.Identifier.volatileWriteCache: return .done(.success, result: 1)
    case Features.Identifier.queueCount:
      let most = UInt32(subsystem.options.queueCount - 1)
      return .done(.success, result: UInt64(state.grantedQueues ?? (most | most << 16)))
    case Features.Identifier.writeAtomicity:
      return .done(.success, result: UInt64(state.writeAtomicity))
    case Features.Identifier.asynchronousEvents:
      return .done(.success, result: UInt64(state.asynchronousEvents))
    case Features.Identifier.keepAlive:
      return .done(.success, result: isDefault ? 0 : UInt64(keepAliveMilliseconds))
    case Features.Identifier.hostIdentifier:
      // The long form is the only one over fabrics.
      guard command.dword11 & 1 == 1 else { return .done(.invalidField) }
      return .data(host.identifier)
    case Features.Identifier.writeProtection:
      return namespace(command.namespace) == nil ? .done(.invalidNamespace) : .success
    default: return .done(.invalidField)
    }
  }

  /// Whether it can be saved, is of each namespace, can be changed.
  private static func capabilities(of identifier: UInt8) -> UInt64 {
    switch identifier {
    case Features.Identifier.writeProtection: 0b010
    case Features.Identifier.hostIdentifier, Features.Identifier.volatileWriteCache: 0b000
    default: 0b100
    }
  }
}
