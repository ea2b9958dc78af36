import CAllocationCounter
import FabricCompletion
import FabricNIC
import FabricWire
import TestSupport
import Testing

@Suite("NIC: what a frame costs", .serialized, .untilStuck)
struct NICHotPathTests {
  @Test("NI-15: nothing is allocated for a frame")
  func allocations() throws {
    let service = try CompletionService()
    let unit = try TestUnit(service: service)
    let one = try TestHost(unit, service: service)
    let two = try TestHost(unit, service: service)
    two.isQuiet = true
    let short = TestFrame.record(
      TestFrame.frame(to: two.address, from: one.address))
    var target = 0
    func pass(_ count: Int) {
      unsafe short.withUnsafeBytes { raw in
        for _ in 0..<count {
          _ = one.send(unsafe WireView(raw))
          target += 1
          while two.quietCount < target { _ = service.turn() }
        }
      }
    }
    pass(200)
    let before = fabric_allocation_count()
    pass(2000)
    #expect(fabric_allocation_count() - before < 20)
  }
}
