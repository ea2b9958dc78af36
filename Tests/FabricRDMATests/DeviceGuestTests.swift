import FabricRDMA
import TestSupport
import Testing

@Suite("RDMA devices, in the guest", .serialized, .enabled(if: Guest.isHere, Guest.comment))
struct DeviceGuestTests {
  @Test("a device is found as long as it is there")
  func comesAndGoes() throws {
    let up = try Guest.shell("rxe_up rxe0 eth0")
    #expect(up.status == 0, "\(up.output)")
    #expect(try RDMADeviceNames.all() == ["rxe0"])
    let down = try Guest.shell("rdma_down rxe0")
    #expect(down.status == 0, "\(down.output)")
    #expect(try RDMADeviceNames.all() == [])
  }
}
