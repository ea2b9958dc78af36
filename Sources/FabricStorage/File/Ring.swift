import CFabricURing
import FabricBounded
import FabricPlatform

/// An io_uring with one registered file. Confined to the thread of its first `activate`.
@safe
final class Ring {
  private let ring: UnsafeMutablePointer<io_uring>
  private var isActive = false
  /// Whether completions wait in the kernel for a call of ours.
  private let isDeferred: Bool
  /// Signalled by the kernel while the ring is armed. The ring's own descriptor does not do: with
  /// deferred task work a sleeper on it is not woken.
  private let event: EventDescriptor
  private var isArmed = false
  private let tags = FixedTable<UInt64>(repeating: 0, count: Ring.batchCount)
  private let results = FixedTable<Int32>(repeating: 0, count: Ring.batchCount)

  /// The most completions that one `take` moves.
  static let batchCount = 64

  /// Best mode first. A disabled ring belongs to the thread that enables it, so that a queue may be
  /// made on one thread and used on another.
  private static let modes: [CUnsignedInt] = [
    fabric_uring_disabled | fabric_uring_single_issuer | fabric_uring_defer_taskrun
      | fabric_uring_taskrun_flag,
    fabric_uring_disabled | fabric_uring_coop_taskrun | fabric_uring_taskrun_flag,
    fabric_uring_disabled,
  ]

  /// - Parameter file: the descriptor that becomes registered file 0.
  init(entryCount: Int, file: CInt) throws(StoreError) {
    do throws(Errno) {
      event = try EventDescriptor()
    } catch {
      throw .ringUnavailable(reason: error)
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
      var file = file
      unsafe result = io_uring_register_files(ring, &file, 1)
      if result == 0 {
        unsafe result = io_uring_register_eventfd(ring, event.descriptor.rawValue)
      }
      if result < 0 { unsafe io_uring_queue_exit(ring) }
    }
    guard result >= 0 else {
      unsafe ring.deallocate()
      throw .ringUnavailable(reason: Errno(rawValue: -result))
    }
    unsafe fabric_uring_signal(ring, false)
  }

  deinit {
    // Gives the file up now; the kernel takes the ring itself down at its leisure.
    unsafe io_uring_unregister_files(ring)
    unsafe io_uring_queue_exit(ring)
    unsafe ring.deallocate()
  }

  var descriptor: CInt { event.descriptor.rawValue }

  /// Binds the ring to the calling thread; of no effect after the first call.
  func activate() {
    if isActive { return }
    isActive = true
    let result = unsafe fabric_uring_enable(ring)
    precondition(result == 0, "enabling the io_uring: \(Errno(rawValue: -result))")
  }

  // One entry each; the ring is as large as the queue is deep and a request has at most one entry
  // under way, so there is always room.

  func read(tag: UInt32, address: UInt64, byteCount: UInt32, offset: UInt64) {
    mustFit(unsafe fabric_uring_read(ring, UInt64(tag), address, byteCount, offset))
  }

  func write(tag: UInt32, address: UInt64, byteCount: UInt32, offset: UInt64, isDurable: Bool) {
    let flags = isDurable ? fabric_rwf_dsync : 0
    mustFit(unsafe fabric_uring_write(ring, UInt64(tag), address, byteCount, offset, flags))
  }

  func syncData(tag: UInt32) {
    mustFit(unsafe fabric_uring_datasync(ring, UInt64(tag)))
  }

  func allocate(tag: UInt32, mode: CInt, offset: UInt64, byteCount: UInt64) {
    mustFit(unsafe fabric_uring_fallocate(ring, UInt64(tag), mode, offset, byteCount))
  }

  @inline(__always)
  private func mustFit(_ done: Bool) {
    precondition(done, "more entries than requests")
  }

  /// Hands entries to the kernel and fetches what has ended meanwhile, in one call. What the kernel
  /// refuses with EAGAIN, EBUSY or EINTR stays queued: the next call hands it over again.
  func submit() {
    guard unsafe fabric_uring_unsubmitted(ring) > 0 else { return }
    check(isDeferred ? unsafe io_uring_submit_and_get_events(ring) : unsafe io_uring_submit(ring))
  }

  /// Submits and blocks until a completion is there.
  func submitAndWait() {
    while unsafe fabric_uring_ready(ring) == 0 {
      check(unsafe io_uring_submit_and_wait(ring, 1))
    }
  }

  /// Whether `take` would find something, fetching it from the kernel where that is needed.
  func hasCompletions() -> Bool {
    if unsafe fabric_uring_ready(ring) > 0 { return true }
    guard unsafe fabric_uring_has_deferred(ring) else { return false }
    check(unsafe io_uring_get_events(ring))
    return unsafe fabric_uring_ready(ring) > 0
  }

  /// Makes `descriptor` readable from the next completion on. False when one is there already.
  func arm() -> Bool {
    if isArmed { event.clear() }
    isArmed = true
    unsafe fabric_uring_signal(ring, true)
    return !hasCompletions()
  }

  /// Stops the signals: a thread that polls needs none.
  func disarm() {
    guard isArmed else { return }
    isArmed = false
    unsafe fabric_uring_signal(ring, false)
    event.clear()
  }

  /// Moves completions out; `completion(at:)` gives the first `count`.
  func take() -> Int {
    unsafe Int(
      fabric_uring_take(ring, tags.address, results.address, CUnsignedInt(Self.batchCount)))
  }

  @inline(__always)
  func completion(at index: Int) -> (tag: UInt32, result: Int32) {
    (UInt32(truncatingIfNeeded: tags[index]), results[index])
  }

  private func check(_ result: CInt) {
    if result >= 0 { return }
    switch -result {
    case EAGAIN, EBUSY, EINTR: return
    case EEXIST: preconditionFailure("a store queue was used on two threads")
    default: preconditionFailure("io_uring_enter: \(Errno(rawValue: -result))")
    }
  }
}
