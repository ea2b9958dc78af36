import FabricPlatform
import FabricWire

enum LogPage {
  static let error: UInt8 = 0x01
  static let health: UInt8 = 0x02
  static let firmware: UInt8 = 0x03
  static let changedNamespaces: UInt8 = 0x04
  static let effects: UInt8 = 0x05
  static let namespaceAccess: UInt8 = 0x0C
  static let discovery: UInt8 = 0x70
}

extension Controller {
  /// The most bytes that one Get Log Page is given.
  static let logByteLimit = 1 << 20
  static let errorEntryCount = 1

  /// Get Log Page. (Base 1.4, section 5.14; NVMe over Fabrics 1.1, section 5.4)
  func logPage(_ command: Command, at now: MonotonicTime) -> AdminOutcome {
    let page = UInt8(truncatingIfNeeded: command.dword10)
    let keepsEvent = command.dword10 & 1 << 15 != 0
    let dwords = UInt64(command.dword10 >> 16) | UInt64(command.dword11 & 0xFFFF) << 16
    let byteCount = (dwords + 1) * 4
    let offset = UInt64(command.dword12) | UInt64(command.dword13) << 32
    guard offset.isMultiple(of: 4), byteCount <= UInt64(Self.logByteLimit) else {
      return .done(.invalidField)
    }
    guard let bytes = logBytes(page, command, at: now) else { return .done(.invalidLogPage) }
    // Behind the end there is nothing to start at. (Base 1.4, figure 199)
    guard offset <= UInt64(bytes.count) else { return .done(.invalidField) }
    if !keepsEvent { unmask(page) }
    if page == LogPage.changedNamespaces { changedNamespaces.removeAll() }
    var result = Array(bytes[Int(offset)...].prefix(Int(byteCount)))
    result.append(contentsOf: repeatElement(0, count: Int(byteCount) - result.count))
    return .data(result)
  }

  private func logBytes(_ page: UInt8, _ command: Command, at now: MonotonicTime) -> [UInt8]? {
    if kind == .discovery { return page == LogPage.discovery ? discoveryLog() : nil }
    switch page {
    case LogPage.error:
      // Each command is told its status, and nothing else goes wrong.
      return [UInt8](repeating: 0, count: 64 * Self.errorEntryCount)
    case LogPage.health: return healthLog(at: now)
    case LogPage.firmware: return firmwareLog()
    case LogPage.changedNamespaces: return changedNamespacesLog()
    case LogPage.effects: return effectsLog()
    case LogPage.namespaceAccess: return accessLog(withNamespaces: command.dword10 >> 8 & 1 == 0)
    default: return nil
    }
  }

  /// SMART / Health Information. (Base 1.4, figure 195)
  private func healthLog(at now: MonotonicTime) -> [UInt8] {
    bytes(512) { buffer in
      let temperature = UInt16(Features.defaultTemperature - 43)
      buffer.set(temperature, at: 1)
      // Spare, and the threshold of it.
      buffer.set(UInt8(100), at: 3)
      buffer.set(UInt8(10), at: 4)
      // Thousands of 512 bytes, rounded up.
      buffer.set((counters.readUnits + 999) / 1000, at: 32)
      buffer.set((counters.writeUnits + 999) / 1000, at: 48)
      buffer.set(counters.readCommands, at: 64)
      buffer.set(counters.writeCommands, at: 80)
      buffer.set(now.nanoseconds(since: begin) / 3_600_000_000_000, at: 128)
      buffer.set(counters.mediaErrors, at: 160)
    }
  }

  private func firmwareLog() -> [UInt8] {
    bytes(512) { buffer in
      // Slot 1 is active, and the only one.
      buffer.set(UInt8(1), at: 0)
      buffer.copy(padded(Self.firmware, to: 8), at: 8)
    }
  }

  private func changedNamespacesLog() -> [UInt8] {
    bytes(4096) { buffer in
      guard changedNamespaces.count <= 1024 else { return buffer.set(UInt32.max, at: 0) }
      for (index, number) in changedNamespaces.sorted().enumerated() {
        buffer.set(number, at: 4 * index)
      }
    }
  }

  /// Commands Supported and Effects. (Base 1.4, figure 202)
  private func effectsLog() -> [UInt8] {
    bytes(4096) { buffer in
      for opcode in Opcode.Admin.all { buffer.set(UInt32(1), at: 4 * Int(opcode)) }
      for opcode in Opcode.IO.all {
        // Supported; and that logical blocks may change.
        let changes = Opcode.IO.modifying.contains(opcode)
        buffer.set(UInt32(changes ? 0b11 : 0b1), at: 1024 + 4 * Int(opcode))
      }
    }
  }

  /// Asymmetric Namespace Access: one group, which every way in reaches as well as any. (Base 1.4, figure 204)
  private func accessLog(withNamespaces: Bool) -> [UInt8] {
    let numbers = withNamespaces ? namespaces.map(\.number) : []
    // As long as it may ever be: hosts read all of that.
    return bytes(16 + 32 + 4 * NVMSubsystem.namespaceLimit) { buffer in
      buffer.set(UInt64(1), at: 0)
      buffer.set(UInt16(1), at: 8)
      buffer.set(UInt32(1), at: 16)
      buffer.set(UInt32(numbers.count), at: 20)
      buffer.set(UInt64(1), at: 24)
      // Optimized.
      buffer.set(UInt8(1), at: 32)
      for (index, number) in numbers.enumerated() { buffer.set(number, at: 48 + 4 * index) }
    }
  }

  /// What there is for this host: none where it may use no volume. (NVMe over Fabrics 1.1, figure 38)
  private func discoveryLog() -> [UInt8] {
    let entries = subsystem.namespaces(for: host.name).isEmpty ? [] : subsystem.entries
    return bytes(1024 + DiscoveryEntry.byteCount * entries.count) { buffer in
      buffer.set(subsystem.discoveryGeneration, at: 0)
      buffer.set(UInt64(entries.count), at: 8)
      for (index, entry) in entries.enumerated() {
        entry.encode(
          into: buffer.slice(1024 * (index + 1), DiscoveryEntry.byteCount),
          subsystem: subsystem.options.name, portNumber: UInt16(truncatingIfNeeded: index + 1),
          host: reachedAt)
      }
    }
  }
}

/// `count` bytes, zero where `fill` writes nothing.
func bytes(_ count: Int, _ fill: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  unsafe bytes.withUnsafeMutableBytes { fill(unsafe WireBuffer($0)) }
  return bytes
}

/// ASCII, with spaces behind.
func padded(_ text: String, to count: Int) -> [UInt8] {
  let bytes = Array(text.utf8.prefix(count))
  return bytes + repeatElement(0x20, count: count - bytes.count)
}
