import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// Receives for several queue pairs. Which of them takes which is the device's choice, so their ends
/// come in any order.
@safe
final class RDMASharedReceiveQueue: SharedReceiveQueue, @unchecked Sendable {
  private struct Slots {
    var free: [Int]
    var ids: [UInt64]
  }

  let capacity: Int
  let handle: UnsafeMutablePointer<ibv_srq>
  private let domain: RDMAProtectionDomain
  private let slots: Mutex<Slots>

  init(in domain: RDMAProtectionDomain, capacity: Int) throws(ResourceError) {
    var attributes = unsafe ibv_srq_init_attr()
    unsafe attributes.attr = ibv_srq_attr(
      max_wr: UInt32(capacity), max_sge: UInt32(ScatterGatherList.maximumCount), srq_limit: 0)
    guard let handle = unsafe ibv_create_srq(domain.handle, &attributes) else {
      throw .refusal(Errno.current, doing: "making a shared receive queue")
    }
    unsafe self.handle = handle
    self.domain = domain
    self.capacity = capacity
    slots = Mutex(
      Slots(free: Array((0..<capacity).reversed()), ids: Array(repeating: 0, count: capacity)))
  }

  deinit { unsafe ibv_destroy_srq(handle) }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    var accepted = 0
    while accepted < requests.count {
      let request = requests[accepted]
      let slot = slots.withLock { slots -> Int? in
        guard let slot = slots.free.popLast() else { return nil }
        slots.ids[slot] = request.id
        return slot
      }
      guard let slot else { break }
      let taken = unsafe requests.extracting(accepted..<accepted + 1).withVerbs(
        for: domain.device, name: { _, _ in UInt64(slot) | RDMAQueuePair.receiveMark }
      ) { list, bad in unsafe ibv_post_srq_recv(handle, list, &bad) }
      guard taken == 1 else {
        slots.withLock { $0.free.append(slot) }
        break
      }
      accepted += 1
    }
    guard accepted < requests.count else { return }
    throw PostError(acceptedCount: accepted, reason: .queueFull)
  }

  /// The request's own name; it has ended.
  func end(_ slot: UInt64) -> UInt64 {
    slots.withLock { slots in
      let slot = Int(truncatingIfNeeded: slot)
      slots.free.append(slot)
      return slots.ids[slot]
    }
  }
}
