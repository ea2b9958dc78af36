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

  let requests: UnsafeMutablePointer<ibv_send_wr>

  init() {
    unsafe requests = .allocate(capacity: Self.capacity)
    unsafe requests.initialize(repeating: ibv_send_wr(), count: Self.capacity)
    for index in 0..<Self.capacity { chain(index) }
  }

  deinit { unsafe requests.deallocate() }

  /// Links request `index` to the one behind it.
  private func chain(_ index: Int) {
    unsafe requests[index].next = index + 1 < Self.capacity ? requests + index + 1 : nil
  }

  /// Writes one request of a list.
  ///
  /// - Parameters:
  ///   - extraFlags: beside the request's own.
  ///   - elements: where they lie until the list is posted.
  @inline(__always)
  static func set(
    _ place: UnsafeMutablePointer<ibv_send_wr>, _ request: UnsafePointer<SendRequest>,
    number: UInt64, extraFlags: SendFlags, elements: UnsafeMutablePointer<ibv_sge>
  ) {
    unsafe place.pointee.wr_id = number
    unsafe place.pointee.sg_list = unsafe elements
    unsafe place.pointee.num_sge = CInt(truncatingIfNeeded: request.pointee.elements.count)
    let opcode = unsafe request.pointee.opcode
    unsafe place.pointee.opcode = opcode.verbs
    unsafe place.pointee.send_flags = UInt32(
      request.pointee.flags.union(extraFlags).rawValue)
    if opcode == .send { return }
    unsafe place.pointee.imm_data = request.pointee.immediate.bigEndian
    unsafe place.pointee.wr.rdma.remote_addr = request.pointee.remoteAddress
    unsafe place.pointee.wr.rdma.rkey = request.pointee.remoteKey.rawValue
  }

  /// Hands the first `count` to the device; returns how many it took.
  @inline(__always)
  func post(_ count: Int, to queuePair: UnsafeMutablePointer<ibv_qp>) -> Int {
    let last = unsafe requests + (count &- 1)
    let behind = unsafe last.pointee.next
    unsafe last.pointee.next = nil
    defer { unsafe last.pointee.next = behind }
    var bad: UnsafeMutablePointer<ibv_send_wr>?
    guard unsafe ibv_post_send(queuePair, requests, &bad) != 0 else { return count }
    // Without a first bad one libsiw has them all, and could not tell the kernel: the connection is
    // about to end.
    guard let bad = unsafe bad else { return count }
    return unsafe bad - requests
  }
}

extension SendOpcode {
  /// A digit for each, in the order of the raw values.
  @inline(__always)
  fileprivate var verbs: ibv_wr_opcode {
    ibv_wr_opcode(rawValue: (0x4_1032 &>> (UInt32(rawValue) &* 4)) & 0xF)
  }
}
