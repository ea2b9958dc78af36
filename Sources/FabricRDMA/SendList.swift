import CFabricVerbs
import FabricVerbs

/// The library's form of requests on their way to the device, a list at a time. Made once: what
/// hardly changes from one request to the next is not written again.
///
/// Threads: the posting one's.
@safe
final class SendList {
  /// Requests that go to the device with one doorbell.
  static let capacity = 16

  private let requests: UnsafeMutablePointer<ibv_send_wr>
  /// A list ends here, wherever it begins: so each request is linked to the next for good.
  let end: UnsafeMutablePointer<ibv_send_wr>
  /// The first that the device did not take.
  @exclusivity(unchecked) private var bad: UnsafeMutablePointer<ibv_send_wr>?

  init() {
    unsafe requests = .allocate(capacity: Self.capacity)
    unsafe requests.initialize(repeating: ibv_send_wr(), count: Self.capacity)
    for index in 1..<Self.capacity { unsafe requests[index - 1].next = requests + index }
    unsafe end = unsafe requests + Self.capacity
  }

  deinit { unsafe requests.deallocate() }

  /// Writes one request of a list. Its elements stay where they are until the list is posted.
  @inline(__always)
  static func set(
    _ place: UnsafeMutablePointer<ibv_send_wr>, _ request: UnsafePointer<SendRequest>,
    number: UInt64, opcode: ibv_wr_opcode
  ) {
    unsafe place.pointee.wr_id = number
    unsafe place.pointee.sg_list = ElementsInPlace.of(request)
    unsafe place.pointee.num_sge = CInt(truncatingIfNeeded: request.pointee.elements.count)
    unsafe place.pointee.opcode = opcode
    unsafe place.pointee.send_flags = UInt32(request.pointee.flags.rawValue)
    // The library looks at what the opcode has of these.
    unsafe place.pointee.imm_data = request.pointee.immediate.bigEndian
    unsafe place.pointee.wr.rdma = .init(
      remote_addr: request.pointee.remoteAddress, rkey: request.pointee.remoteKey.rawValue)
  }

  /// Asks for a completion of the last request, whatever its own flags are.
  @inline(__always)
  func askForCompletion() { unsafe (end - 1).pointee.send_flags |= IBV_SEND_SIGNALED.rawValue }

  /// Whether a completion tells that all of the list have ended.
  @inline(__always)
  var endsWithCompletion: Bool {
    unsafe (end - 1).pointee.send_flags & IBV_SEND_SIGNALED.rawValue != 0
  }

  /// Hands the last `count` places to the device; returns how many it took.
  @inline(__always)
  func post(_ count: Int, to queuePair: UnsafeMutablePointer<ibv_qp>) -> Int {
    let first = unsafe end - count
    guard unsafe ibv_post_send(queuePair, first, &bad) != 0 else { return count }
    return unsafe tookUpTo(bad, of: first, count)
  }

  @inline(never)
  private func tookUpTo(
    _ bad: UnsafeMutablePointer<ibv_send_wr>?, of first: UnsafeMutablePointer<ibv_send_wr>,
    _ count: Int
  ) -> Int {
    // Without a first bad one libsiw has them all, and could not tell the kernel: the connection is
    // about to end.
    guard let bad = unsafe bad else { return count }
    unsafe self.bad = nil
    return unsafe bad - first
  }
}
