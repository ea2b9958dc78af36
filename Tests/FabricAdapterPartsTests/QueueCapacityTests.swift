import FabricAdapterParts
import FabricVerbs
import Testing

@Suite("Capacities of queues")
struct QueueCapacityTests {
  @Test("a queue of requests takes 1 to 65536", arguments: [0, 1, 65536, 65537, -1, .max])
  func requests(capacity: Int) {
    #expect(
      refusal { () throws(ResourceError) in
        try QueueCapacity.check(requests: capacity, "send queue")
      }
        == (1...65536 ~= capacity
          ? nil : "expected a send queue for 1 to 65536 requests, got \(capacity)"))
  }

  @Test("a completion queue takes 1 to 16777216", arguments: [0, 1, 16_777_216, 16_777_217])
  func completions(capacity: Int) {
    #expect(
      refusal { () throws(ResourceError) in try QueueCapacity.check(completions: capacity) }
        == (1...16_777_216 ~= capacity
          ? nil : "expected a completion queue for 1 to 16777216 requests, got \(capacity)"))
  }

  private func refusal(_ body: () throws(ResourceError) -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return error.description
    }
  }
}
