import FabricBounded
import FabricCompletion
import FabricIOUnit
import FabricMessaging
import FabricNIC
import FabricPlatform
import FabricVerbs

/// Joins the hosts of one NIC with each other, and with an interface of the unit's machine where it has one.
///
/// Who owns an address is known: each host has its own, and the rest is behind the interface. A frame is copied once, out of
/// its sender's buffer into what goes to its receiver next; what was checked is the copy. Where a receiver has no room
/// its sender waits, and with it the interface that the frames come from; a receiver that takes nothing for a while
/// holds up nobody: what is for it is dropped. (NI-30 to NI-36)
///
/// Threads: confined to the unit's. Nothing is allocated for a frame.
final class Switch {
  let name: String
  let options: NICOptions
  let service: CompletionService
  let log: @Sendable (String) -> Void
  let memory: UnitMemory
  let slots: FrameSlots
  /// What is in each slot.
  let fills = FixedTable<FrameRun>(repeating: FrameRun(), count: Switch.slotCount)
  private var uplink: UplinkPort?
  private var hosts: [HostPort] = []
  /// Accepted, the channel not up yet.
  private var opening: [(host: HostNICOpening, port: HostPort)] = []
  /// Whose an address is; those behind the interface are not in it.
  private var owners: [MACAddress: HostPort] = [:]
  /// Receivers that have got something since their last flush.
  private var touched: [HostPort] = []
  /// Senders wait for a receiver's room.
  private(set) var hasWaiting = false
  /// When receivers are looked at that something waits for; nil: nothing does.
  private var nextCheck: MonotonicTime?
  private var nextLook = MonotonicTime.now
  private(set) var link: LinkNotice

  static let slotCount = 128
  static let hostSlotLimit = 16

  /// Whether a host that has so many slots may have one more: fewer the less are left, so that those who take nothing
  /// never have the last.
  func hasSlot(forOneWith count: Int) -> Bool {
    count < min(Self.hostSlotLimit, slots.free.count)
  }

  init(
    _ options: NICOptions, uplink: FramePort?, fabric: UnitFabric,
    log: @escaping @Sendable (String) -> Void
  ) throws(RegistrationError) {
    self.options = options
    name = options.name
    service = fabric.service
    self.log = { log("\(options.name): \($0)") }
    memory = try fabric.allocate(byteCount: Self.slotCount * FrameSlots.usualByteCount)
    unsafe slots = FrameSlots(
      address: memory.address, count: Self.slotCount, byteCount: FrameSlots.usualByteCount)
    link = LinkNotice(isUp: true, mtu: options.mtu ?? 1500)
    if let uplink {
      let port = UplinkPort(uplink, of: self)
      self.uplink = port
      link = port.link(otherwise: link)
    }
  }

  /// Frames of the interface that its kernel had no room for: whose they were nobody knows.
  var missedCount: UInt64 { uplink?.statistics.missedCount ?? 0 }

  func start() {
    uplink?.start()
    service.add(self)
  }

  func stop() {
    service.remove(self)
    uplink?.stop()
    for host in hosts {
      host.close()
      host.release()
    }
    hosts = []
    opening = []
    owners = [:]
    touched = []
    uplink = nil
  }

  // MARK: Hosts

  /// Judges a host's opening. (NI-4, NI-5, NI-30)
  func accept(
    _ host: HostNICOpening, peer: String, fabric: Int, unitName: String
  ) throws -> AcceptDecision {
    let address = host.address ?? freeAddress()
    if let owner = owners[address] {
      guard owner.session == host.session, owner.hostName == host.hostName else {
        return .reject(
          reason:
            "expected an address of this host's own, but \(address) is that of another; give it "
            + "another one")
      }
      // The same host again: what it had before is over.
      owner.close()
      remove(owner)
    }
    if address == uplink?.address {
      return .reject(
        reason:
          "expected an address of this host's own, but \(address) is that of the interface that "
          + "the NIC is joined to")
    }
    let answer = try UnitNICOpening(unitName: unitName, address: address, link: link).encoded()
    let port = HostPort(
      hostName: host.hostName, session: host.session, address: address, peer: peer,
      fabric: fabric, of: self)
    owners[address] = port
    opening.append((host, port))
    return .accept(greeting: answer, handler: port)
  }

  func opened(_ channel: Channel, of host: HostNICOpening) {
    guard let index = opening.lastIndex(where: { $0.host == host }) else { return }
    let port = opening.remove(at: index).port
    guard channel.peerBufferByteCount >= FrameRecord.maximumByteCount else {
      log(
        "\(port): expected buffers of \(FrameRecord.maximumByteCount) bytes at least, got "
          + "\(channel.peerBufferByteCount)")
      channel.close()
      return remove(port)
    }
    hosts.append(port)
    port.opened(channel)
    log("\(port): attached as \(port.address)")
  }

  private func freeAddress() -> MACAddress {
    while true {
      let address = MACAddress.random()
      if owners[address] == nil { return address }
    }
  }

  /// Forgets a host whose connection has gone.
  func remove(_ port: HostPort) {
    hosts.removeAll { $0 === port }
    opening.removeAll { $0.port === port }
    touched.removeAll { $0 === port }
    owners = owners.filter { $0.value !== port }
    port.release()
    resumeWaiting()
  }

  /// Whether a host may send from another address: its own from now on. (NI-23)
  func claim(_ address: MACAddress, by port: HostPort) -> Bool {
    if owners[address] === port { return true }
    guard owners[address] == nil, address != uplink?.address else { return false }
    owners[port.address] = nil
    owners[address] = port
    return true
  }

  /// Whether a frame may come from an address: a host's own, or one more that it is first seen with. (NI-31)
  func mayUse(_ address: MACAddress, _ port: HostPort) -> Bool {
    if let owner = owners[address] { return owner === port }
    guard port.learntCount &+ 1 < options.addressCount, address.isOfStation,
      address != uplink?.address
    else { return false }
    owners[address] = port
    port.learntCount &+= 1
    log("\(port): sends from \(address), too")
    return true
  }

  func isHosts(_ address: MACAddress) -> Bool { owners[address] != nil }

  // MARK: Frames

  /// Passes a frame on that has been checked.
  ///
  /// - Parameters:
  ///   - source: the host that it comes from; nil: the interface.
  ///   - statistics: the sender's.
  /// - Returns: false when its receiver has no room yet: the sender waits.
  func forward(
    _ frame: Frame, from source: HostPort?, counting statistics: inout NICStatistics
  ) -> Bool {
    let destination = frame.destination
    if destination.isGroup {
      for host in hosts where host !== source { host.takeOrDrop(frame) }
      if source != nil { uplink?.write(frame) }
      return true
    }
    if let host = owners[destination], host !== source {
      guard host.take(frame) else {
        hasWaiting = true
        return false
      }
    } else if let uplink, source != nil, owners[destination] == nil {
      uplink.write(frame)
    } else {
      statistics.unknownCount &+= 1
    }
    return true
  }

  func touch(_ port: HostPort) {
    if port.isTouched { return }
    port.isTouched = true
    touched.append(port)
  }

  /// Sends what receivers have got.
  func flush() {
    var index = 0
    while index < touched.count {
      touched[index].isTouched = false
      touched[index].flush()
      index &+= 1
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// A receiver has room again, or counts no more.
  func resumeWaiting() {
    guard hasWaiting else { return }
    hasWaiting = false
    for host in hosts { host.resume() }
    uplink?.resume()
    flush()
  }
}

extension Switch: TimedSource {
  static let checkInterval: Duration = .milliseconds(100)
  /// How often it is looked how the interface is.
  private static let lookInterval: Duration = .milliseconds(500)

  var nextDeadline: MonotonicTime? {
    guard let nextCheck else { return uplink == nil ? nil : nextLook }
    return uplink == nil ? nextCheck : min(nextCheck, nextLook)
  }

  /// Something waits for a receiver: whether that takes anything is looked at from now on.
  func watch() {
    guard nextCheck == nil else { return }
    nextCheck = .now + Self.checkInterval
    service.deadlinesHaveChanged()
  }

  func progress(at now: MonotonicTime) -> Int {
    if let time = nextCheck, time <= now {
      nextCheck = nil
      for host in hosts { host.check() }
      if hosts.contains(where: \.isBehind) { nextCheck = now + Self.checkInterval }
    }
    if let uplink, nextLook <= now {
      nextLook = now + Self.lookInterval
      adopt(uplink.link(otherwise: link))
    }
    return 1
  }

  /// The interface is now like this.
  private func adopt(_ found: LinkNotice) {
    guard found != link else { return }
    link = found
    log("link \(found.isUp ? "up" : "down"), MTU \(found.mtu)")
    for host in hosts { host.tell(found) }
  }
}
