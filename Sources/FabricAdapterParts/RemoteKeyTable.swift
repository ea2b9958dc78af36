public import FabricPlatform
public import FabricVerbs
public import Synchronization

/// What a remote key opens: a range, the rights, and who may use it.
public struct RemoteKeyRecord: Sendable, BitwiseCopyable {
  public var address: UInt64
  public var byteCount: UInt64
  public var access: AccessRights
  /// The only queue pair whose peer may use the key; 0 for all of the domain.
  public var queuePairNumber: UInt32
  /// What the adapter needs to reach the bytes.
  public var context: UInt64

  public init(
    address: UInt64, byteCount: UInt64, access: AccessRights, queuePairNumber: UInt32 = 0,
    context: UInt64 = 0
  ) {
    self.address = address
    self.byteCount = byteCount
    self.access = access
    self.queuePairNumber = queuePairNumber
    self.context = context
  }

  /// Whether `count` bytes from `first` lie inside, without wrap. (The order of checks:
  /// validity, connection, rights, bounds.)
  @inlinable
  public func covers(_ first: UInt64, _ count: UInt64) -> Bool {
    first >= address && count <= byteCount && first &- address <= byteCount &- count
  }
}

/// The keys of a protection domain, for adapters that check them in software.
///
/// A key is a random 32-bit value whose low bits choose its slot: a look-up is one comparison,
/// and a key tells nothing about any other. Look-ups may run beside changes; a look-up that
/// overlaps the key's removal finds it or not, so whoever removes a key waits for the users by
/// means of the adapter's own.
@safe
public final class RemoteKeyTable: @unchecked Sendable {
  /// Keys that may exist at once; half of the slots, so that a free one is found quickly.
  public static let limit = 8192
  @inlinable static var slotCount: Int { 16384 }

  @usableFromInline let keys: UnsafeMutablePointer<Atomic<UInt32>>
  @usableFromInline let records: UnsafeMutablePointer<RemoteKeyRecord>
  private struct Drawing {
    var count = 0
    /// Drawn ahead: the system is asked for many at a time.
    var random: [UInt32] = []
  }
  private let drawing = Mutex(Drawing())
  /// Where the table lies when others read it as well.
  private let mapping: Mapping?

  public init() {
    unsafe keys = .allocate(capacity: Self.slotCount)
    // None across two lines of the cache.
    unsafe records = UnsafeMutableRawPointer.allocate(
      byteCount: Self.slotCount * MemoryLayout<RemoteKeyRecord>.stride, alignment: 64
    ).bindMemory(to: RemoteKeyRecord.self, capacity: Self.slotCount)
    mapping = nil
    for index in 0..<Self.slotCount {
      unsafe (keys + index).initialize(to: Atomic(0))
    }
  }

  /// Bytes of a table in memory that others read.
  public static var byteCount: Int {
    slotCount * (MemoryLayout<Atomic<UInt32>>.stride + MemoryLayout<RemoteKeyRecord>.stride)
  }

  /// A table in zeroed shared memory, or the view of one that another process keeps; a reader must
  /// check each record that it finds against what it knows.
  public init(in mapping: Mapping) {
    precondition(mapping.byteCount >= Self.byteCount, "the table is longer than the memory")
    self.mapping = mapping
    let base = unsafe mapping.bytes.baseAddress!
    unsafe keys = base.assumingMemoryBound(to: Atomic<UInt32>.self)
    unsafe records = (base + Self.slotCount * MemoryLayout<Atomic<UInt32>>.stride)
      .assumingMemoryBound(to: RemoteKeyRecord.self)
  }

  deinit {
    guard mapping == nil else { return }
    unsafe keys.deinitialize(count: Self.slotCount)
    unsafe keys.deallocate()
    unsafe records.deallocate()
  }

  /// Draws a key for `record`; nil when `limit` keys exist.
  public func insert(_ record: RemoteKeyRecord) -> RemoteKey? {
    drawing.withLock { drawing -> RemoteKey? in
      guard drawing.count < Self.limit else { return nil }
      while true {
        let key = Self.draw(&drawing.random)
        let slot = Int(key) & (Self.slotCount - 1)
        guard key != 0, unsafe keys[slot].load(ordering: .relaxed) == 0 else { continue }
        unsafe records[slot] = record
        // Pairs with the acquire in `record(for:)`.
        unsafe keys[slot].store(key, ordering: .releasing)
        drawing.count += 1
        // Where the next key goes is anywhere in the table: it is fetched while there is time.
        // Not by `last`, which is generic: unoptimized it takes memory, for each loan.
        let left = drawing.random.count
        if left > 0 { fetch(Int(drawing.random[left - 1]) & (Self.slotCount - 1)) }
        return RemoteKey(rawValue: key)
      }
    }
  }

  private func fetch(_ slot: Int) {
    prefetch(UInt64(UInt(bitPattern: unsafe keys + slot)), byteCount: 1)
    prefetch(UInt64(UInt(bitPattern: unsafe records + slot)), byteCount: 1)
  }

  private static func draw(_ random: inout [UInt32]) -> UInt32 {
    if let next = random.popLast() { return next }
    // The room of those that were drawn before.
    for _ in 0..<1024 { random.append(0) }
    unsafe random.withUnsafeMutableBytes { unsafe SystemRandom.fill($0) }
    return random.removeLast()
  }

  /// Forgets a key; false when there is none.
  @discardableResult
  public func remove(_ key: RemoteKey) -> Bool {
    drawing.withLock { drawing in
      let slot = Int(key.rawValue) & (Self.slotCount - 1)
      guard key.rawValue != 0, unsafe keys[slot].load(ordering: .relaxed) == key.rawValue else {
        return false
      }
      unsafe keys[slot].store(0, ordering: .sequentiallyConsistent)
      drawing.count -= 1
      return true
    }
  }

  /// Forgets every key whose record matches. Slow: it looks at every slot.
  public func removeAll(where matches: (RemoteKeyRecord) -> Bool) {
    drawing.withLock { drawing in
      for slot in 0..<Self.slotCount {
        guard unsafe keys[slot].load(ordering: .relaxed) != 0, unsafe matches(records[slot]) else {
          continue
        }
        unsafe keys[slot].store(0, ordering: .sequentiallyConsistent)
        drawing.count -= 1
      }
    }
  }

  /// What `key` opens; nil for a key that does not exist (any more).
  @inlinable
  public func record(for key: RemoteKey) -> RemoteKeyRecord? {
    let slot = Int(key.rawValue) & (Self.slotCount - 1)
    guard key.rawValue != 0, unsafe keys[slot].load(ordering: .acquiring) == key.rawValue else {
      return nil
    }
    return unsafe records[slot]
  }
}
