/// A reference to an object that somebody else keeps alive for as long as this is used: it costs no
/// count, neither to hold nor to use.
@safe
public struct UncountedReference<Object: AnyObject> {
  @usableFromInline let reference: Unmanaged<Object>

  @inlinable
  public init(_ object: Object) { unsafe reference = .passUnretained(object) }

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
