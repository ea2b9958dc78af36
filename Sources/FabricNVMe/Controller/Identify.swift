import FabricStorage
import FabricWire

extension Controller {
  static let firmware = "1.0"
  static let model = "ChannelFabric"
  /// NVM Express 1.4.
  static let version: UInt32 = 0x0001_0400

  /// Identify: 4096 bytes of what CNS names. (Base 1.4, section 5.15)
  func identify(_ command: Command) -> AdminOutcome {
    let structure = UInt8(truncatingIfNeeded: command.dword10)
    let commandSet = UInt8(truncatingIfNeeded: command.dword11 >> 24)
    guard kind == .io || structure == 0x01 else { return .done(.invalidField) }
    switch structure {
    case 0x00, 0x11: return identifyNamespace(command.namespace)
    case 0x01: return .data(controllerData())
    case 0x02, 0x10: return activeNamespaces(after: command.namespace)
    case 0x03: return namespaceDescriptors(command.namespace)
    case 0x05: return commandSet == 0 ? ofCommandSet(command.namespace) : .done(.invalidField)
    // Limits of the NVM command set: none beside those of transfers.
    case 0x06: return commandSet == 0 ? .data(bytes(4096) { _ in }) : .done(.invalidField)
    case 0x12:
      guard namespace(command.namespace) != nil else { return .done(.invalidField) }
      return controllerList(from: UInt16(truncatingIfNeeded: command.dword10 >> 16))
    case 0x13: return controllerList(from: UInt16(truncatingIfNeeded: command.dword10 >> 16))
    default: return .done(.invalidField)
    }
  }

  // MARK: Namespaces

  private func identifyNamespace(_ number: UInt32) -> AdminOutcome {
    // What all namespaces have in common.
    if number == .max {
      return .data(
        bytes(4096) { buffer in
          buffer.set(UInt8(1), at: 30)
        })
    }
    guard number != 0, Int(number) <= NVMSubsystem.namespaceLimit else {
      return .done(.invalidNamespace)
    }
    // One that is not there for this host: zeroes.
    guard let namespace = namespace(number), let access = access(to: namespace.volume) else {
      return .data(bytes(4096) { _ in })
    }
    let volume = namespace.volume
    return .data(
      bytes(4096) { buffer in
        for offset in [0, 8, 16] { buffer.set(volume.blockCount, at: offset) }
        // Deallocated blocks can be told of; preferred sizes are given.
        buffer.set(UInt8(0b1_0000), at: 24)
        // Shared by controllers.
        buffer.set(UInt8(1), at: 30)
        // Deallocated blocks read as zeroes, and Write Zeroes may deallocate.
        buffer.set(UInt8(0b1001), at: 33)
        buffer.set(volume.byteCount, at: 48)
        let page = max(1, UInt16(4096 / volume.blockByteCount)) - 1
        for offset in [64, 66, 68, 70] { buffer.set(page, at: offset) }
        buffer.set(UInt32(1), at: 92)
        buffer.set(UInt8(access == .readOnly ? 1 : 0), at: 99)
        buffer.copy(namespace.identifierBytes, at: 104)
        buffer.set(namespace.blockShift, at: 128 + 2)
      })
  }

  private func activeNamespaces(after number: UInt32) -> AdminOutcome {
    guard number < UInt32.max - 1 else { return .done(.invalidNamespace) }
    let numbers = namespaces.map(\.number).filter { $0 > number }.prefix(1024)
    return .data(
      bytes(4096) { buffer in
        for (index, number) in numbers.enumerated() { buffer.set(number, at: 4 * index) }
      })
  }

  /// NGUID, UUID and command set. (Base 1.4, figure 248)
  private func namespaceDescriptors(_ number: UInt32) -> AdminOutcome {
    guard let namespace = namespace(number) else { return .done(.invalidNamespace) }
    let identifier = namespace.identifierBytes
    return .data(
      bytes(4096) { buffer in
        var offset = 0
        for (type, value) in [(UInt8(2), identifier), (3, identifier), (4, [0])] {
          buffer.set(type, at: offset)
          buffer.set(UInt8(value.count), at: offset + 1)
          buffer.copy(value, at: offset + 4)
          offset += 4 + value.count
        }
      })
  }

  private func ofCommandSet(_ number: UInt32) -> AdminOutcome {
    guard namespace(number) != nil else { return .done(.invalidNamespace) }
    return .data(bytes(4096) { _ in })
  }

  private func controllerList(from first: UInt16) -> AdminOutcome {
    let numbers = subsystem.controllers.values.filter { $0.kind == .io && $0.number >= first }
      .map(\.number).sorted().prefix(2047)
    return .data(
      bytes(4096) { buffer in
        buffer.set(UInt16(numbers.count), at: 0)
        for (index, number) in numbers.enumerated() { buffer.set(number, at: 2 + 2 * index) }
      })
  }

  // MARK: The controller

  private func controllerData() -> [UInt8] {
    bytes(4096) { buffer in
      describeIdentity(buffer)
      buffer.set(UInt8(kind == .io ? 1 : 2), at: 111)
      // Extended data of log pages; effects of commands.
      buffer.set(UInt8(kind == .io ? 0b110 : 0b100), at: 261)
      buffer.set(UInt8(Self.eventRequestLimit - 1), at: 259)
      buffer.set(UInt16(Self.keepAliveUnit / 100), at: 320)
      buffer.set(UInt16(clamping: subsystem.options.queueDepth), at: 514)
      // Scatter-gather lists, keyed ones (over RDMA), offsets in capsules.
      buffer.set(UInt32(1 | 1 << 2 | 1 << 20), at: 536)
      let name = kind == .io ? subsystem.options.name : QualifiedName.discovery
      buffer.copy(Array(name.utf8), at: 768)
      if kind == .io {
        describeIO(buffer)
      } else {
        buffer.set(UInt32(1 << 31), at: 92)
      }
    }
  }

  private func describeIdentity(_ buffer: WireBuffer) {
    buffer.copy(padded(subsystem.serialNumber, to: 20), at: 4)
    buffer.copy(padded(Self.model, to: 40), at: 24)
    buffer.copy(padded(Self.firmware, to: 8), at: 64)
    // Pages of 4096 bytes, as a power of two.
    let pages = subsystem.options.maximumTransferByteCount / 4096
    buffer.set(UInt8(pages.trailingZeroBitCount), at: 77)
    buffer.set(number, at: 78)
    buffer.set(Self.version, at: 80)
    // Host identifiers of 128 bits.
    buffer.set(UInt32(1), at: 96)
  }

  private func describeIO(_ buffer: WireBuffer) {
    // Several ports, several controllers, and how well each reaches a namespace is told.
    buffer.set(UInt8(0b1011), at: 76)
    // Events: namespaces.
    buffer.set(UInt32(1 << 8), at: 92)
    // The least and the most time that a reset takes: 1 s, 1 s.
    buffer.set(UInt32(1_000_000), at: 84)
    buffer.set(UInt32(1_000_000), at: 88)
    buffer.set(UInt8(3), at: 258)
    // One slot of firmware, which cannot be written.
    buffer.set(UInt8(0b11), at: 260)
    buffer.set(UInt8(Self.errorEntryCount - 1), at: 262)
    buffer.set(UInt16(343), at: 266)
    buffer.set(UInt16(353), at: 268)
    // Access: 10 s for a change, optimized only, one group.
    buffer.set(UInt8(10), at: 342)
    buffer.set(UInt8(1), at: 343)
    buffer.set(UInt32(1), at: 344)
    buffer.set(UInt32(1), at: 348)
    // Entries of 64 and of 16 bytes.
    buffer.set(UInt8(0x66), at: 512)
    buffer.set(UInt8(0x44), at: 513)
    buffer.set(UInt32(NVMSubsystem.namespaceLimit), at: 516)
    buffer.set(UInt32(NVMSubsystem.namespaceLimit), at: 540)
    // Compare, Write Uncorrectable, Dataset Management, Write Zeroes, Verify.
    buffer.set(UInt16(0b1000_1111), at: 520)
    // A volatile write cache is there; Flush of all namespaces at once is not.
    buffer.set(UInt8(0b101), at: 525)
    buffer.set(UInt32((Command.byteCount + transport.inCapsuleByteCount) / 16), at: 1792)
    buffer.set(UInt32(1), at: 1796)
    // One descriptor in a command; an I/O queue can be disconnected by itself.
    buffer.set(UInt8(1), at: 1803)
    buffer.set(UInt16(1), at: 1804)
    // One power state, of 1 W.
    buffer.set(UInt16(100), at: 2048)
  }
}
