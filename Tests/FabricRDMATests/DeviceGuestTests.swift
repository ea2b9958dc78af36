import FabricRDMA
import TestSupport
import Testing

/// Real devices of the guest's kernel.
@Suite("RDMA devices, in the guest", .serialized, .enabled(if: Guest.isHere, Guest.comment))
struct DeviceGuestTests {
  /// Runs `script` before and makes the device go afterwards.
  private func with(_ name: String, _ script: String, _ body: () throws -> Void) throws {
    let up = try Guest.shell(script)
    #expect(up.status == 0, "\(up.output)")
    defer { _ = try? Guest.shell("rdma_down \(name)") }
    try body()
  }

  @Test("an rxe device: its port, its names, its limits")
  func rxe() throws {
    try with("rxe0", "rxe_up rxe0 eth0") {
      let survey = RDMASurvey.take()
      #expect(survey.isUsable, "\(survey)")
      let device = try #require(survey.devices.first)
      #expect(device.name == "rxe0")
      #expect(device.numaNode == nil)
      #expect(try #require(device.limits).queuePairCount > 1000)
      let port = try #require(device.ports.first)
      #expect(port.protocolName(of: device.transport) == "RoCE v2")
      #expect(port.interface == "eth0")
      #expect(port.addresses.contains("10.0.2.15"))
      #expect(port.packetByteCount == 1024)
      let gid = try #require(port.gids.first { $0.description == "10.0.2.15" })
      #expect(gid.index == 1)
      #expect(gid.kind == .roceV2)
    }
    #expect(RDMASurvey.take().problems == [.noDevice])
  }

  @Test("an siw device, whose port has an address but no name of IP", .enabled(if: Guest.hasSIW))
  func siw() throws {
    try with("siw0", "siw_up plain siw0 eth0") {
      let survey = RDMASurvey.take()
      #expect(survey.isUsable, "\(survey)")
      let device = try #require(survey.devices.first)
      let port = try #require(device.ports.first)
      #expect(port.protocolName(of: device.transport) == "iWARP")
      #expect(port.interface == "eth0")
      #expect(port.addresses.contains("10.0.2.15"))
    }
  }

  @Test("a link that is down, and up again")
  func down() throws {
    try with("rxe0", "rxe_up rxe0 eth0; ip link set eth0 down") {
      defer { _ = try? Guest.shell("ip link set eth0 up; usable rxe0") }
      let survey = RDMASurvey.take()
      #expect(!survey.isUsable)
      let device = try #require(survey.devices.first)
      #expect(
        device.ports.first?.problem(of: device.transport)
          == .portDown(interface: "eth0", .ethernet))
    }
  }
}
