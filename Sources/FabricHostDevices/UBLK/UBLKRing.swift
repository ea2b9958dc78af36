import CFabricUBLK
import FabricBounded
import FabricPlatform

/// The io_uring of one of a device's queues: each entry fetches a request for a tag, after it has
/// told how the last one of that tag ended. Confined to the thread that makes it.
@safe
final class UBLKRing {
  private let ring: UnsafeMutablePointer<io_uring>
  private let event: EventDescriptor
  private let isEncoded: Bool
  private let queue: UInt16
  private let isDeferred: Bool
  private var isArmed = false
  private let tags = FixedTable<UInt64>(repeating: 0, count: UBLKRing.batchCount)
  private let results = FixedTable<Int32>(repeating: 0, count: UBLKRing.batchCount)

  /// The most completions that one `take` moves.
  static let batchCount = 64

  /// Best mode first, as for the store's.
  private static let modes: [CUnsignedInt] = [
    fabric_uring_single_issuer | fabric_uring_defer_taskrun | fabric_uring_taskrun_flag,
    fabric_uring_coop_taskrun | fabric_uring_taskrun_flag,
    0,
  ]

  /// - Parameters:
  ///   - device: of `/dev/ublkcN`; becomes registered file 0.
  ///   - entryCount: a tag has one entry at most.
  init(
    device: CInt, queue: UInt16, entryCount: Int, isEncoded: Bool
  ) throws(HostDeviceError) {
    self.queue = queue
    self.isEncoded = isEncoded
    event = try HostDeviceError.doing("expected an event descriptor") { () throws(Errno) in
      try EventDescriptor()
    }
    unsafe ring = .allocate(capacity: 1)
    unsafe ring.initialize(to: io_uring())
    var result: CInt = -EINVAL
    var mode: CUnsignedInt = 0
    for candidate in Self.modes where result == -EINVAL {
      mode = candidate
      unsafe result = fabric_uring_open(ring, CUnsignedInt(entryCount), mode)
    }
    isDeferred = mode & fabric_uring_taskrun_flag != 0
    if result == 0 {
      var file = device
      unsafe result = io_uring_register_files(ring, &file, 1)
      if result == 0 {
        unsafe result = io_uring_register_eventfd(ring, event.descriptor.rawValue)
      }
      if result < 0 { unsafe io_uring_queue_exit(ring) }
    }
    guard result >= 0 else {
      unsafe ring.deallocate()
      throw .system(Errno(rawValue: -result), doing: "expected an io_uring for the device's queue")
    }
    unsafe fabric_uring_signal(ring, false)
  }

  deinit {
    // Gives the device up now; the kernel takes the ring itself down at its leisure.
    unsafe io_uring_unregister_files(ring)
    unsafe io_uring_queue_exit(ring)
    unsafe ring.deallocate()
  }

  var descriptor: CInt { event.descriptor.rawValue }

  /// Queues the fetching of a first request for a tag.
  func fetch(tag: Int, into address: UInt64) { put(tag, commits: false, 0, address) }

  /// Queues the end of a tag's request, and the fetching of another.
  func commit(tag: Int, result: Int32, into address: UInt64) {
    put(tag, commits: true, result, address)
  }

  private func put(_ tag: Int, commits: Bool, _ result: Int32, _ address: UInt64) {
    let isDone = unsafe fabric_ublk_fetch(
      ring, isEncoded, commits, queue, UInt16(tag), result, address)
    precondition(isDone, "more entries than tags")
  }

  /// Hands entries to the kernel, and fetches what has ended meanwhile, in one call.
  func submit() {
    guard unsafe fabric_uring_unsubmitted(ring) > 0 else { return }
    check(isDeferred ? unsafe io_uring_submit_and_get_events(ring) : unsafe io_uring_submit(ring))
  }

  private func hasCompletions() -> Bool {
    if unsafe fabric_uring_ready(ring) > 0 { return true }
    guard unsafe fabric_uring_has_deferred(ring) else { return false }
    check(unsafe io_uring_get_events(ring))
    return unsafe fabric_uring_ready(ring) > 0
  }

  /// Makes `descriptor` readable from the next completion on, or now when one is there already.
  func arm() {
    if isArmed { event.clear() }
    isArmed = true
    unsafe fabric_uring_signal(ring, true)
    if hasCompletions() { event.signal() }
  }

  /// Stops the signals: a thread that polls needs none.
  func disarm() {
    guard isArmed else { return }
    isArmed = false
    unsafe fabric_uring_signal(ring, false)
    event.clear()
  }

  /// Moves completions out; `completion(at:)` gives the first of as many.
  func take() -> Int {
    guard hasCompletions() else { return 0 }
    return unsafe Int(
      fabric_uring_take(ring, tags.address, results.address, CUnsignedInt(Self.batchCount)))
  }

  func completion(at index: Int) -> (tag: Int, result: Int32) {
    (Int(truncatingIfNeeded: tags[index]), results[index])
  }

  private func check(_ result: CInt) {
    if result >= 0 { return }
    switch -result {
    case EAGAIN, EBUSY, EINTR: return
    default: preconditionFailure("io_uring_enter: \(Errno(rawValue: -result))")
    }
  }
}
