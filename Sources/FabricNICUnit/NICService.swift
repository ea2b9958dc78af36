import FabricCompletion
public import FabricIOUnit
public import FabricMessaging
public import FabricNIC
public import FabricVerbs
import Synchronization

/// The unit half of a split network driver: the NICs that hosts connect to at a unit's addresses.
/// The protocol is in `Specs/NIC.md`.
///
/// Threads: `init` and `statistics` on any; the rest on the unit's.
public final class NICService: UnitService, @unchecked Sendable {
  private let unitName: String
  private let nics: [NICOptions]
  private let allows: @Sendable (_ host: String, _ nic: String) -> Bool
  private let log: @Sendable (String) -> Void
  /// What has been made in `init` and is taken by `start`.
  private var uplinks: [FramePort?]
  private var switches: [Switch] = []

  /// Takes the interfaces that NICs are joined to.
  ///
  /// - Parameters:
  ///   - allows: whether a host may use a NIC. Where no keys are proven a host may call itself what it likes.
  ///   - log: told of what an operator might want to know: one line each.
  /// - Throws: why an interface cannot be had.
  public init(
    unitName: String, nics: [NICOptions],
    allows: @escaping @Sendable (_ host: String, _ nic: String) -> Bool = { _, _ in true },
    log: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(InterfaceError) {
    self.unitName = unitName
    self.nics = nics
    self.allows = allows
    self.log = log
    var uplinks: [FramePort?] = []
    for nic in nics { uplinks.append(try Self.uplink(of: nic)) }
    self.uplinks = uplinks
  }

  private static func uplink(of nic: NICOptions) throws(InterfaceError) -> FramePort? {
    switch nic.uplink {
    case .none: return nil
    case .interface(let interface):
      // No Ethernet: refused in words.
      _ = try interface.address()
      return try FramePort.packets(of: interface)
    case .tap(let interface):
      let port = try FramePort.tap(interface, queueCount: 1)
      if let mtu = nic.mtu { try interface.setMTU(mtu) }
      return port
    }
  }

  public func start(on fabric: UnitFabric) throws(RegistrationError) {
    for (nic, uplink) in zip(nics, uplinks) {
      switches.append(try Switch(nic, uplink: uplink, fabric: fabric, log: log))
    }
    uplinks = []
    for one in switches { one.start() }
  }

  public func accept(greeting: [UInt8], peer: ChannelPeer, fabric: Int) -> AcceptDecision? {
    guard HostNICOpening.isMarked(greeting) else { return nil }
    do {
      let host = try HostNICOpening(decoding: greeting)
      if let name = peer.keyName, name != host.hostName {
        return .reject(
          reason: "expected the host to call itself as its key is called, \"\(name)\", got "
            + "\"\(host.hostName)\"")
      }
      let visible = switches.filter { allows(host.hostName, $0.name) }
      guard let nic = visible.first(where: { $0.name == host.nicName }) else {
        let names = visible.map { "\"\($0.name)\"" }.joined(separator: ", ")
        guard !nics.isEmpty else {
          return .reject(reason: "this unit serves no NICs: it is to be started with --nic")
        }
        return .reject(
          reason: "no NIC \"\(host.nicName)\" here; "
            + (names.isEmpty ? "there is none for this host" : "there are \(names)"))
      }
      return try nic.accept(host, peer: "\(peer)", fabric: fabric, unitName: unitName)
    } catch {
      return .reject(reason: "\(error)")
    }
  }

  public func opened(_ channel: Channel) -> Bool {
    guard HostNICOpening.isMarked(channel.peerGreeting) else { return false }
    guard let host = try? HostNICOpening(decoding: channel.peerGreeting),
      let nic = switches.first(where: { $0.name == host.nicName })
    else { return false }
    nic.opened(channel, of: host)
    return true
  }

  public func stop() {
    for one in switches { one.stop() }
    switches = []
  }
}
