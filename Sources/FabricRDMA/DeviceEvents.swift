import CFabricVerbs
import FabricPlatform
import FabricVerbs
import Synchronization

/// What the device says of itself: a port that goes down, a queue pair that is broken, its own
/// removal. Whoever owns a connection that this concerns hears of its end.
///
/// Threads: any.
@safe
final class DeviceEvents: @unchecked Sendable {
  @safe
  private struct QueuePairs {
    var byNumber: [UInt32: () -> RDMAQueuePair?] = [:]
  }

  private let context: UnsafeMutablePointer<ibv_context>
  private let name: String
  private let queuePairs = Mutex(QueuePairs())
  /// Held from an event's taking until all that it concerns have ended: who looks in between would find nothing.
  private let taking = Mutex(())

  init(_ context: UnsafeMutablePointer<ibv_context>, name: String) throws(Errno) {
    unsafe self.context = unsafe context
    self.name = name
    try Errno.check { unsafe fabric_verbs_unblock(context.pointee.async_fd) }
  }

  var descriptor: CInt { unsafe context.pointee.async_fd }

  func add(_ queuePair: RDMAQueuePair) {
    let number = queuePair.number
    queuePairs.withLock { all in all.byNumber[number] = { [weak queuePair] in queuePair } }
  }

  func remove(_ queuePair: RDMAQueuePair) {
    queuePairs.withLock { _ = $0.byNumber.removeValue(forKey: queuePair.number) }
  }

  /// Takes what has come; whom it concerns has ended when this returns, on whichever thread it was taken.
  func take() { taking.withLock { _ in takeAll() } }

  private func takeAll() {
    var event = unsafe ibv_async_event()
    while unsafe ibv_get_async_event(context, &event) == 0 {
      let kind = unsafe event.event_type
      let number = unsafe Self.isOfQueuePair(kind) ? event.element.qp.pointee.qp_num : nil
      unsafe ibv_ack_async_event(&event)
      let words = unsafe String(cString: ibv_event_type_str(kind))
      if let number {
        living(number)?.end(.failure("\(name): \(words)"))
      } else if Self.endsAll(kind) {
        for queuePair in all() { queuePair.end(.failure("\(name): \(words)")) }
      }
    }
  }

  private func living(_ number: UInt32) -> RDMAQueuePair? {
    queuePairs.withLock { $0.byNumber[number]?() }
  }

  private func all() -> [RDMAQueuePair] {
    queuePairs.withLock { $0.byNumber.values.compactMap { $0() } }
  }

  private static func isOfQueuePair(_ kind: ibv_event_type) -> Bool {
    switch kind {
    case IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR: true
    default: false
    }
  }

  private static func endsAll(_ kind: ibv_event_type) -> Bool {
    switch kind {
    case IBV_EVENT_PORT_ERR, IBV_EVENT_DEVICE_FATAL: true
    default: false
    }
  }
}
