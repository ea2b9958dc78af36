import FabricBounded
import FabricCompletion
import FabricNIC
import FabricPlatform
import FabricWire

/// The interface that a NIC is joined to. Confined to the unit's thread.
@safe
final class UplinkPort: ProgressSource {
  private let port: FramePort
  private unowned let owner: Switch
  private(set) var address: MACAddress?
  private var whereabouts = FramePort.Whereabouts.here
  var statistics = NICStatistics()
  /// Where frames land.
  private let landing = FixedTable<UInt8>(repeating: 0, count: FrameSlots.usualByteCount)
  /// What landed and was passed on, and what landed at all.
  private var done = 0
  private var landed = 0
  /// A receiver has no room.
  private var isWaiting = false

  init(_ port: FramePort, of owner: Switch) {
    self.port = port
    self.owner = owner
    address = try? port.interface.address()
  }

  func start() {
    if port.isTAP { try? port.setCarrier(true) }
    port.activate()
    owner.service.add(self)
  }

  func stop() { owner.service.remove(self) }

  /// How the interface is.
  func link(otherwise last: LinkNotice) -> LinkNotice {
    let missedCount = port.takeMissedCount()
    if statistics.missedCount == 0, missedCount > 0 {
      owner.log(
        "frames of \(port.interface) were lost, for which its queue had no room; iohost nic show counts them as missed"
      )
    }
    statistics.missedCount &+= missedCount
    let known = port.interface
    let found = port.locate()
    if found != whereabouts {
      whereabouts = found
      owner.log(
        found == .elsewhere
          ? "the interface \(known) is in another network namespace now: its link counts as up"
          : "the interface \(known) was removed; restart the unit to join one again")
    } else if port.interface != known {
      owner.log("the interface \(known) is called \(port.interface) now")
    }
    switch found {
    case .gone: return LinkNotice(isUp: false, mtu: last.mtu)
    case .elsewhere: return LinkNotice(isUp: true, mtu: last.mtu)
    case .here: break
    }
    address = (try? port.interface.address()) ?? address
    let mtu = (try? port.interface.mtu()) ?? last.mtu
    return LinkNotice(
      isUp: (try? port.interface.isRunning()) ?? false,
      mtu: min(max(mtu, NICProtocol.mtus.lowerBound), NICProtocol.mtus.upperBound))
  }

  /// Hands a host's frame to the interface.
  func write(_ frame: Frame) {
    if port.write(frame) {
      statistics.sentFrameCount &+= 1
      statistics.sentByteCount &+= UInt64(frame.byteCount)
    } else {
      statistics.refusedCount &+= 1
    }
  }

  private var buffer: WireBuffer {
    unsafe WireBuffer(UnsafeMutableRawPointer(landing.address), byteCount: landing.count)
  }

  func progress() -> Int {
    guard !isWaiting, port.isReadable else { return 0 }
    let run = port.read(into: buffer)
    done = 0
    landed = run.byteCount
    passOn()
    owner.flush()
    return run.frameCount
  }

  private func passOn() {
    let view = buffer.view.slice(0, landed)
    while done < landed, let frame = Frame(in: view, at: done) {
      if let fault = frame.fault(mtu: owner.link.mtu) {
        fault.count(in: &statistics)
      } else if owner.isHosts(frame.source) {
        statistics.spoofedCount &+= 1
      } else {
        let unknownCount = statistics.unknownCount
        guard owner.forward(frame, from: nil, counting: &statistics) else {
          isWaiting = true
          return
        }
        if statistics.unknownCount == unknownCount {
          statistics.receivedFrameCount &+= 1
          statistics.receivedByteCount &+= UInt64(frame.byteCount)
        }
      }
      done &+= frame.recordByteCount
    }
    isWaiting = false
  }

  /// A receiver has room again.
  func resume() { if isWaiting { passOn() } }

  var descriptor: CInt? { port.descriptor }
  func arm() {
    // While a receiver has no room its channel wakes.
    if !isWaiting, !port.arm() { port.signal() }
  }
  func disarm() { port.disarm() }
  var nextDeadline: MonotonicTime? { nil }
}
