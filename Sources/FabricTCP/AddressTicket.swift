import FabricPlatform
import Synchronization

/// How many connections a listener has from each address.
final class AddressLimits: Sendable {
  private let connectionsPerAddress: Int
  private let counts = Mutex<[[UInt8]: Int]>([:])
  private let turnedAway = Atomic<Int>(0)

  /// Who was not let in.
  var turnedAwayCount: Int { turnedAway.load(ordering: .relaxed) }

  init(_ options: TCPOptions) { connectionsPerAddress = options.connectionsPerAddress }

  /// Lets one more in; nil when the address has as many as it may.
  func enter(_ address: InternetAddress) -> AddressTicket? {
    let isLetIn = counts.withLock { counts in
      let old = counts[address.host, default: 0]
      guard old < connectionsPerAddress else { return false }
      counts[address.host] = old + 1
      return true
    }
    return isLetIn ? AddressTicket(address.host, self) : nil
  }

  /// Counts one that was not let in.
  func turnAway() { turnedAway.add(1, ordering: .relaxed) }

  fileprivate func left(_ host: [UInt8]) {
    counts.withLock { counts in
      guard let old = counts[host] else { return }
      counts[host] = old == 1 ? nil : old - 1
    }
  }
}

/// One connection of an address; it counts as long as this object lives.
final class AddressTicket: Sendable {
  private let host: [UInt8]
  private let limits: AddressLimits

  fileprivate init(_ host: [UInt8], _ limits: AddressLimits) {
    self.host = host
    self.limits = limits
  }

  deinit { limits.left(host) }
}
