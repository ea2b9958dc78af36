import FabricPlatform
import FabricRDMA
import FabricVerbs
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

  @Test("registrations that are kept: the device has one for a range, however often it is used")
  func registrationCache() async throws {
    let up = try Guest.shell("rxe_up rxe0 eth0")
    #expect(up.status == 0, "\(up.output)")
    // A process of its own: the device cannot go while one has it open.
    await #expect(processExitsWith: .success) {
      let domain = try RDMAAdapter().makeProtectionDomain()
      let cache = RegistrationCache(in: domain)
      let mapping = try Mapping.anonymous(byteCount: 1 << 20)
      precondition(registrationCount() == 0)
      for index in 0..<1000 {
        let use = try cache.use(
          address: mapping.address + UInt64(index), byteCount: mapping.byteCount - 1000)
        cache.giveBack(use)
        if index == 0 {
          precondition(registrationCount() == 1)
          cache.giveBack(try cache.use(address: mapping.address, byteCount: mapping.byteCount))
        }
      }
      // The first, that of all, and none for what lies within.
      precondition(registrationCount() == 2)
      precondition(cache.counts.hitCount == 999 && cache.counts.missCount == 2)
      cache.invalidate(address: mapping.address, byteCount: 1)
      precondition(registrationCount() == 0)
    }
    #expect(try Guest.shell("timeout 20 rdma link delete rxe0").status == 0)
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

/// Registrations of the device, which nobody else has now; -1 when the kernel does not say. It knows of each
/// the thread that made it.
private func registrationCount() -> Int {
  guard let answer = try? Guest.shell("rdma resource show mr"), answer.status == 0 else {
    return -1
  }
  return answer.output.split(separator: "\n").count { $0.hasPrefix("dev rxe0 ") }
}
