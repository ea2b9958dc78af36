import FabricPlatform
import Synchronization

/// Registrations of memory that the application owns, a mapped file or a buffer that is used again and again: made when
/// a range is used for the first time, and found again by range. A use that finds one costs no system call.
///
/// Nothing watches the application's memory: before it is unmapped, freed or mapped anew, `invalidate` must be called.
/// Registrations are for this side's requests only. A key for peers must end when its use does, so that there is
/// nothing to keep.
///
/// All uses are given back before the cache goes, or it traps. Threads: all calls from any thread. The domain is called outside of the lock.
public final class RegistrationCache: Sendable {
  /// What is kept at most, idle and in use together. Uses are not refused: what goes beyond ends with its use.
  public struct Limits: Sendable {
    /// Bytes registered; those of overlapping registrations count for each.
    public var byteCount = 256 << 20
    /// Registrations.
    public var entryCount = 1024

    public init() {}
  }

  /// A registration that somebody uses, until it is given back.
  public struct Use: Sendable {
    fileprivate let entry: Entry

    /// Covers the range that was asked for, and perhaps more.
    public var region: MemoryRegion { entry.region }

    /// A piece for a work request. Traps outside the registration.
    ///
    /// - Parameter address: of the first byte, in this process.
    public func element(at address: UInt64, byteCount: Int) -> ScatterGatherElement {
      precondition(address >= region.address, "outside the region")
      return region.element(
        offset: Int(clamping: address - region.address), byteCount: byteCount)
    }
  }

  /// What there is, and how often it served.
  public struct Counts: Equatable, Sendable {
    /// Uses that found a registration.
    public var hitCount = 0
    /// Uses that made one.
    public var missCount = 0
    /// Registrations that a later use may find.
    public var entryCount = 0
    /// Bytes of these.
    public var byteCount = 0
    /// Of these, registrations in use.
    public var usedEntryCount = 0
  }

  /// Its variables are the state's, under the lock.
  fileprivate final class Entry: @unchecked Sendable {
    let region: MemoryRegion
    var useCount = 1
    /// When it was used last, in uses.
    var lastUse: UInt64 = 0
    /// Whether a later use may find it.
    var isKept = false

    init(_ region: MemoryRegion) { self.region = region }

    var start: UInt64 { region.address }
    var end: UInt64 { region.address + UInt64(region.byteCount) }
  }

  /// A range that is being registered, outside of the lock.
  private struct Pending {
    let range: Range<UInt64>
    var isInvalid = false
  }

  private struct State {
    /// Those that can be found, by their start.
    var kept: [Entry] = []
    var keptByteCount = 0
    /// Of the longest that was ever kept; nothing that starts so far in front of a range covers its end.
    var longest: UInt64 = 0
    var pending: [UInt64: Pending] = [:]
    /// Numbers uses.
    var clock: UInt64 = 0
    var hitCount = 0
    var missCount = 0
  }

  private let domain: any ProtectionDomain
  private let access: AccessRights
  private let limits: Limits
  private let state = Mutex(State())

  /// - Parameters:
  ///   - domain: of an adapter that `hasForeignMemory`.
  ///   - access: `.localWrite` for receives and the results of RDMA reads, or none for what is sent alone; that does
  ///     for memory that may not be written. Traps for a right of peers.
  public init(
    in domain: any ProtectionDomain, access: AccessRights = .localWrite, limits: Limits = Limits()
  ) {
    precondition(access.isSubset(of: .localWrite), "peers' keys are not kept")
    self.domain = domain
    self.access = access
    self.limits = limits
  }

  deinit {
    let rest = state.withLock { $0.kept }
    precondition(rest.allSatisfy { $0.useCount == 0 }, "a registration is in use")
    for entry in rest { domain.deregister(entry.region) }
  }

  /// What there is now.
  public var counts: Counts {
    state.withLock { state in
      Counts(
        hitCount: state.hitCount, missCount: state.missCount, entryCount: state.kept.count,
        byteCount: state.keptByteCount,
        usedEntryCount: state.kept.count { $0.useCount > 0 })
    }
  }

  // MARK: Uses

  /// Has a range registered until the use is given back, and mostly longer.
  ///
  /// - Parameters:
  ///   - address: of the first byte, in this process.
  ///   - byteCount: of memory that stays until it was invalidated.
  /// - Throws: what `ProtectionDomain.register` throws.
  public func use(address: UInt64, byteCount: Int) throws(RegistrationError) -> Use {
    let (end, wraps) = address.addingReportingOverflow(UInt64(clamping: byteCount))
    guard byteCount > 0, address != 0, !wraps else { throw .emptyOrWrapping }
    let range = address..<end
    let (found, ticket) = state.withLock { state -> (Entry?, UInt64) in
      state.clock += 1
      if let entry = Self.find(range, in: state) {
        entry.useCount += 1
        entry.lastUse = state.clock
        state.hitCount += 1
        return (entry, 0)
      }
      state.missCount += 1
      state.pending[state.clock] = Pending(range: range)
      return (nil, state.clock)
    }
    if let found { return Use(entry: found) }
    let entry: Entry
    do {
      entry = try Entry(register(range))
    } catch {
      state.withLock { _ = $0.pending.removeValue(forKey: ticket) }
      throw error
    }
    let dropped = state.withLock { state -> [Entry] in
      let isInvalid = state.pending.removeValue(forKey: ticket)?.isInvalid ?? true
      entry.lastUse = ticket
      return isInvalid ? [] : keep(entry, &state)
    }
    for entry in dropped { domain.deregister(entry.region) }
    return Use(entry: entry)
  }

  /// What is idle is given up where the system has no more to give.
  private func register(_ range: Range<UInt64>) throws(RegistrationError) -> MemoryRegion {
    while true {
      do {
        return try domain.register(
          address: range.lowerBound, byteCount: Int(range.upperBound - range.lowerBound),
          access: access, owner: nil)
      } catch {
        switch error {
        case .refused, .tooManyKeys, .system(.noMemory, _): break
        default: throw error
        }
        let oldest = state.withLock { state in Self.dropOldest(&state) }
        guard let oldest else { throw error }
        domain.deregister(oldest.region)
      }
    }
  }

  /// Ends a use, whose requests have all ended. Traps where all uses of its registration were given back before.
  public func giveBack(_ use: Use) {
    let isOver = state.withLock { _ in
      precondition(use.entry.useCount > 0, "the use was given back before")
      use.entry.useCount -= 1
      return use.entry.useCount == 0 && !use.entry.isKept
    }
    if isOver { domain.deregister(use.entry.region) }
  }

  // MARK: Ends

  /// Forgets what covers a byte of a range. Registrations that are idle have ended when it returns; those in use end when
  /// the last use is given back. No later use finds one of them.
  public func invalidate(address: UInt64, byteCount: Int) {
    let (sum, wraps) = address.addingReportingOverflow(UInt64(clamping: byteCount))
    guard byteCount > 0 else { return }
    forget(address..<(wraps ? .max : sum))
  }

  /// As `invalidate`, for all memory.
  public func invalidateAll() { forget(0..<UInt64.max) }

  private func forget(_ range: Range<UInt64>) {
    let idle = state.withLock { state -> [Entry] in
      for (ticket, pending) in state.pending where pending.range.overlaps(range) {
        state.pending[ticket]?.isInvalid = true
      }
      let ended = state.kept.filter { ($0.start..<$0.end).overlaps(range) }
      if ended.isEmpty { return [] }
      state.kept.removeAll { ($0.start..<$0.end).overlaps(range) }
      for entry in ended {
        entry.isKept = false
        state.keptByteCount -= entry.region.byteCount
      }
      return ended.filter { $0.useCount == 0 }
    }
    for entry in idle { domain.deregister(entry.region) }
  }

  // MARK: Under the lock

  /// The place of the first entry that starts behind an address.
  private static func place(behind address: UInt64, in kept: [Entry]) -> Int {
    var low = 0
    var high = kept.count
    while low < high {
      let middle = (low + high) / 2
      if kept[middle].start > address { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private static func find(_ range: Range<UInt64>, in state: State) -> Entry? {
    var index = place(behind: range.lowerBound, in: state.kept)
    while index > 0 {
      index -= 1
      let entry = state.kept[index]
      if entry.end >= range.upperBound { return entry }
      if range.upperBound - entry.start > state.longest { return nil }
    }
    return nil
  }

  /// Keeps a new entry where there is room; returns idle ones that had to go.
  private func keep(_ entry: Entry, _ state: inout State) -> [Entry] {
    let byteCount = entry.region.byteCount
    // Nothing is dropped for one that would not fit beside those in use.
    let used = state.kept.filter { $0.useCount > 0 }
    let usedByteCount = used.reduce(0) { $0 + $1.region.byteCount }
    guard used.count < limits.entryCount, byteCount <= limits.byteCount - usedByteCount else {
      return []
    }
    var dropped: [Entry] = []
    while state.kept.count >= limits.entryCount
      || byteCount > limits.byteCount - state.keptByteCount
    {
      guard let oldest = Self.dropOldest(&state) else { return dropped }
      dropped.append(oldest)
    }
    state.kept.insert(entry, at: Self.place(behind: entry.start, in: state.kept))
    state.keptByteCount += byteCount
    state.longest = max(state.longest, UInt64(byteCount))
    entry.isKept = true
    return dropped
  }

  /// Forgets the idle entry whose last use is the longest ago; nil when all are in use.
  private static func dropOldest(_ state: inout State) -> Entry? {
    var oldest: Int?
    for (index, entry) in state.kept.enumerated() where entry.useCount == 0 {
      if let best = oldest, state.kept[best].lastUse <= entry.lastUse { continue }
      oldest = index
    }
    guard let oldest else { return nil }
    let entry = state.kept.remove(at: oldest)
    entry.isKept = false
    state.keptByteCount -= entry.region.byteCount
    return entry
  }
}
