import FabricPlatform
import FabricRDMA
import Testing

@Suite("RDMA devices")
struct DeviceTests {
  @Test("a machine without RDMA has no devices, and says why or nothing")
  func withoutDevices() {
    do {
      _ = try RDMADeviceNames.all()
    } catch {
      #expect(error == .notImplemented)
    }
  }
}
