public import CFabricURing
public import FabricBounded
public import FabricPlatform

/// An io_uring with one registered file, and an event descriptor to sleep on. Who has one puts entries
/// into it, each with a tag.
///
/// Threads: confined to the thread of its first `activate`. Nothing is allocated once it is made.
@safe
public final class Ring {
  /// For the C functions that fill entries. The ring is as large as was asked for: who has no more entries
  /// under way always finds room.
  public let entries: UnsafeMutablePointer<io_uring>
  private var isActive = false
  /// Whether completions wait in the kernel for a call of ours.
  private let isDeferred: Bool
  /// Signalled by the kernel while the ring is armed. The ring's own descriptor does not do: with
  /// deferred task work a sleeper on it is not woken.
  private let event: EventDescriptor
  private var isArmed = false
  @usableFromInline let tags = FixedTable<UInt64>(repeating: 0, count: Ring.batchCount)
  @usableFromInline let results = FixedTable<Int32>(repeating: 0, count: Ring.batchCount)

  /// The most completions that one `take` moves.
  public static let batchCount = 64

  /// What the entries of a ring do.
  public enum Work {
    /// They read, write and carry commands.
    case transfers
    /// They wait until a file can be read.
    case polls
  }

  /// Best mode first. A disabled ring belongs to the thread that enables it, so that a queue may be
  /// made on one thread and used on another.
  private static let modes: [CUnsignedInt] = [
    fabric_uring_disabled | fabric_uring_single_issuer | fabric_uring_defer_taskrun
      | fabric_uring_taskrun_flag,
    fabric_uring_disabled | fabric_uring_coop_taskrun | fabric_uring_taskrun_flag,
    fabric_uring_disabled,
  ]

  /// - Parameter file: the descriptor that becomes registered file 0.
  public init(
    entryCount: Int, file: CInt, for work: Work = .transfers
  ) throws(Errno) {
    event = try EventDescriptor()
    unsafe entries = .allocate(capacity: 1)
    unsafe entries.initialize(to: io_uring())
    var result: CInt = -EINVAL
    var mode: CUnsignedInt = 0
    // Linux 6.12 does not signal the event for a deferred poll, but for the first one: it hands the signal on
    // to RCU, and never takes note that it was given.
    let modes = work == .polls ? Self.modes.dropFirst() : Self.modes[...]
    for candidate in modes where result == -EINVAL {
      mode = candidate
      unsafe result = fabric_uring_open(entries, CUnsignedInt(entryCount), mode)
    }
    isDeferred = mode & fabric_uring_taskrun_flag != 0
    if result == 0 {
      var file = file
      unsafe result = io_uring_register_files(entries, &file, 1)
      if result == 0 {
        unsafe result = io_uring_register_eventfd(entries, event.descriptor.rawValue)
      }
      if result < 0 { unsafe io_uring_queue_exit(entries) }
    }
    guard result >= 0 else {
      unsafe entries.deallocate()
      throw Errno(rawValue: -result)
    }
    unsafe fabric_uring_signal(entries, false)
  }

  deinit {
    // Gives the file up now; the kernel takes the ring itself down at its leisure.
    unsafe io_uring_unregister_files(entries)
    unsafe io_uring_queue_exit(entries)
    unsafe entries.deallocate()
  }

  public var descriptor: CInt { event.descriptor.rawValue }

  /// Binds the ring to the calling thread; of no effect after the first call.
  public func activate() {
    if isActive { return }
    isActive = true
    let result = unsafe fabric_uring_enable(entries)
    precondition(result == 0, "enabling the io_uring: \(Errno(rawValue: -result))")
  }

  /// Hands entries to the kernel and fetches what has ended meanwhile, in one call. What the kernel
  /// refuses with EAGAIN, EBUSY or EINTR stays queued: the next call hands it over again.
  public func submit() {
    guard unsafe fabric_uring_unsubmitted(entries) > 0 else { return }
    check(
      isDeferred ? unsafe io_uring_submit_and_get_events(entries) : unsafe io_uring_submit(entries))
  }

  /// Submits and blocks until a completion is there.
  public func submitAndWait() {
    while unsafe fabric_uring_ready(entries) == 0 {
      check(unsafe io_uring_submit_and_wait(entries, 1))
    }
  }

  /// Whether `take` would find something, fetching it from the kernel where that is needed.
  public func hasCompletions() -> Bool {
    if unsafe fabric_uring_ready(entries) > 0 { return true }
    guard unsafe fabric_uring_has_deferred(entries) else { return false }
    check(unsafe io_uring_get_events(entries))
    return unsafe fabric_uring_ready(entries) > 0
  }

  /// Makes `descriptor` readable from the next completion on. False when one is there already.
  public func arm() -> Bool {
    if isArmed { event.clear() }
    isArmed = true
    unsafe fabric_uring_signal(entries, true)
    return !hasCompletions()
  }

  /// Makes `descriptor` readable now, where `arm` found a completion.
  public func signal() { event.signal() }

  /// Stops the signals: a thread that polls needs none.
  public func disarm() {
    guard isArmed else { return }
    isArmed = false
    unsafe fabric_uring_signal(entries, false)
    event.clear()
  }

  /// Moves completions out; `completion(at:)` gives the first `count`.
  public func take() -> Int {
    unsafe Int(
      fabric_uring_take(entries, tags.address, results.address, CUnsignedInt(Self.batchCount)))
  }

  @inlinable @inline(__always)
  public func completion(at index: Int) -> (tag: UInt32, result: Int32) {
    (UInt32(truncatingIfNeeded: tags[index]), results[index])
  }

  private func check(_ result: CInt) {
    if result >= 0 { return }
    switch -result {
    case EAGAIN, EBUSY, EINTR: return
    case EEXIST: preconditionFailure("a ring was used on two threads")
    default: preconditionFailure("io_uring_enter: \(Errno(rawValue: -result))")
    }
  }
}
