/// Objects by number, found without counting references: open addressing, at most half full. Keeps
/// its objects until they are removed. One thread at a time.
@safe
public struct NumberedObjects<Object: AnyObject>: ~Copyable {
  @safe @usableFromInline
  struct Entry {
    @usableFromInline var number: UInt32
    /// Retained; nil in a free place.
    @usableFromInline var object: Unmanaged<Object>?
  }

  @usableFromInline var entries: UnsafeMutablePointer<Entry>
  @usableFromInline var mask: UInt32
  /// 32 less the bits of an index.
  @usableFromInline var shift: UInt32
  public private(set) var count = 0

  public init() {
    unsafe entries = Self.emptyPlaces(16)
    mask = 15
    shift = 28
  }

  deinit {
    for index in 0...Int(mask) { unsafe entries[index].object?.release() }
    unsafe entries.deallocate()
  }

  /// The object of a number, valid until it is removed; nil when there is none.
  @inlinable @inline(__always)
  public func find(_ number: UInt32) -> UncountedReference<Object>? {
    var index = home(of: number)
    while true {
      let entry = unsafe entries[Int(index)]
      guard let object = unsafe entry.object else { return nil }
      if entry.number == number { return unsafe UncountedReference(object) }
      index = (index &+ 1) & mask
    }
  }

  /// Takes the place of an earlier object of that number.
  public mutating func set(_ object: Object, of number: UInt32) {
    remove(number)
    if (count + 1) * 2 > Int(mask) + 1 { grow() }
    unsafe place(Unmanaged.passRetained(object), of: number)
    count += 1
  }

  /// Returns the object that the number had. Those behind its place move up, so that no search ends
  /// at the hole.
  @discardableResult
  public mutating func remove(_ number: UInt32) -> Object? {
    guard find(number) != nil else { return nil }
    var hole = home(of: number)
    while unsafe entries[Int(hole)].number != number || entries[Int(hole)].object == nil {
      hole = (hole &+ 1) & mask
    }
    let object = unsafe entries[Int(hole)].object
    var next = (hole &+ 1) & mask
    while unsafe entries[Int(next)].object != nil {
      let distance = unsafe (next &- home(of: entries[Int(next)].number)) & mask
      if distance >= (next &- hole) & mask {
        unsafe entries[Int(hole)] = entries[Int(next)]
        hole = next
      }
      next = (next &+ 1) & mask
    }
    unsafe entries[Int(hole)] = Entry(number: 0, object: nil)
    count -= 1
    return unsafe object?.takeRetainedValue()
  }

  /// Calls `body` with each object, in no order; it must not change these.
  public func forEach(_ body: (Object) -> Void) {
    for index in 0...Int(mask) {
      if let object = unsafe entries[index].object { unsafe body(object.takeUnretainedValue()) }
    }
  }

  /// Where the search for `number` begins: multiplied by 2^32 over the golden ratio, so that
  /// numbers with the same low bits spread, too.
  @inlinable @inline(__always)
  func home(of number: UInt32) -> UInt32 { (number &* 0x9E37_79B1) &>> shift }

  private mutating func place(_ object: Unmanaged<Object>, of number: UInt32) {
    var index = home(of: number)
    while unsafe entries[Int(index)].object != nil { index = (index &+ 1) & mask }
    unsafe entries[Int(index)] = Entry(number: number, object: object)
  }

  private mutating func grow() {
    let old = unsafe entries
    let oldCount = Int(mask) + 1
    unsafe entries = Self.emptyPlaces(2 * oldCount)
    mask = mask &* 2 &+ 1
    shift -= 1
    for index in 0..<oldCount {
      let entry = unsafe old[index]
      if let object = unsafe entry.object { unsafe place(object, of: entry.number) }
    }
    unsafe old.deallocate()
  }

  private static func emptyPlaces(_ count: Int) -> UnsafeMutablePointer<Entry> {
    let places = UnsafeMutablePointer<Entry>.allocate(capacity: count)
    unsafe places.initialize(repeating: Entry(number: 0, object: nil), count: count)
    return unsafe places
  }
}
