import FabricPlatform
import Synchronization

/// How many connections a listener has from each address.
final class AddressLimits: Sendable {
  private struct Counts {
    var connections = 0
    var startUps = 0
  }

  private let options: TCPOptions
  private let counts = Mutex<[[UInt8]: Counts]>([:])
  private let turnedAway = Atomic<Int>(0)

  /// Who was not let in.
  var turnedAwayCount: Int { turnedAway.load(ordering: .relaxed) }

  init(_ options: TCPOptions) { self.options = options }

  /// Lets one more in; nil when the address has as many as it may.
  func enter(_ address: InternetAddress) -> AddressTicket? {
    let isLetIn = counts.withLock { counts in
      let old = counts[address.host, default: Counts()]
      guard old.connections < options.connectionsPerAddress,
        old.startUps < options.startUpsPerAddress
      else { return false }
      counts[address.host] = Counts(
        connections: old.connections + 1, startUps: old.startUps + 1)
      return true
    }
    if isLetIn { return AddressTicket(address.host, self) }
    turnedAway.add(1, ordering: .relaxed)
    return nil
  }

  fileprivate func started(_ host: [UInt8]) {
    counts.withLock { $0[host]?.startUps -= 1 }
  }

  fileprivate func left(_ host: [UInt8], hadStarted: Bool) {
    counts.withLock { counts in
      guard var old = counts[host] else { return }
      old.connections -= 1
      if !hadStarted { old.startUps -= 1 }
      counts[host] = old.connections == 0 ? nil : old
    }
  }
}

/// One connection of an address; it counts as long as this object lives.
final class AddressTicket: Sendable {
  private let host: [UInt8]
  private let limits: AddressLimits
  private let hasStarted = Atomic<Bool>(false)

  fileprivate init(_ host: [UInt8], _ limits: AddressLimits) {
    self.host = host
    self.limits = limits
  }

  /// The start-up is over.
  func start() {
    if !hasStarted.exchange(true, ordering: .relaxed) { limits.started(host) }
  }

  deinit { limits.left(host, hadStarted: hasStarted.load(ordering: .relaxed)) }
}
