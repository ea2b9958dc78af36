import FabricNIC
import FabricPlatform
import FabricWire
import TestSupport
import Testing

/// On the guest's kernel, whose io_uring is another one than this machine's.
@Suite("NIC: interfaces, in the guest", .serialized, .enabled(if: Guest.isHere, Guest.comment))
struct FramePortGuestTests {
  @Test("a sleeper is woken by each frame")
  func waking() throws {
    let port = try FramePort.tap(NetworkInterface("waking0"), queueCount: 1)
    let up = try Guest.shell(
      """
      sysctl -qw net.ipv6.conf.waking0.disable_ipv6=1
      ip address add 192.0.2.1/24 dev waking0
      ip link set waking0 up
      ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev waking0
      """)
    #expect(up.status == 0, "\(up.output)")
    let room = try Mapping.anonymous(byteCount: 2 * FrameRecord.maximumByteCount)
    let buffer = unsafe WireBuffer(room.bytes)
    let poller = try Poller()
    try poller.add(port.descriptor, tag: 1)
    port.activate()
    for round in 0..<20 {
      while port.isReadable { _ = port.read(into: buffer) }
      try #require(port.arm())
      let sent = try Guest.shell("echo frame > /dev/udp/192.0.2.2/9")
      #expect(sent.status == 0, "\(sent.output)")
      try #require(poller.wait(timeout: .seconds(5)) { _ in } == 1, "round \(round)")
      port.disarm()
      #expect(port.isReadable && port.read(into: buffer).frameCount == 1)
    }
  }
}
