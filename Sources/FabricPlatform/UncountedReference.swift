/// A reference to an object that somebody else keeps alive for as long as this is used: it costs no
/// count, neither to hold nor to use.
@safe
public struct UncountedReference<Object: AnyObject>: BitwiseCopyable {
  @usableFromInline let reference: Unmanaged<Object>

  @inlinable
  public init(_ object: Object) { unsafe reference = .passUnretained(object) }

  @inlinable
  public init(_ reference: Unmanaged<Object>) { unsafe self.reference = unsafe reference }

  /// The object, counted again.
  public var object: Object { unsafe reference.takeUnretainedValue() }

  /// Asks for the first `byteCount` bytes of the object to be brought near, without looking at it.
  public func prefetch(byteCount: Int) {
    let address = unsafe UInt64(UInt(bitPattern: reference.toOpaque()))
    FabricPlatform.prefetch(address, byteCount: byteCount)
  }

  @inlinable @inline(__always)
  public func with<Result>(_ body: (Object) -> Result) -> Result {
    unsafe reference._withUnsafeGuaranteedRef(body)
  }

  /// Whether this is a reference to `object`.
  @inlinable
  public func refers(to object: Object) -> Bool {
    unsafe reference.toOpaque() == Unmanaged.passUnretained(object).toOpaque()
  }
}

extension UncountedReference: @unchecked Sendable where Object: Sendable {}
