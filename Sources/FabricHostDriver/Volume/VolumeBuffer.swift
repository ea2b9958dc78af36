import FabricVerbs

/// Memory for the data of a remote volume's requests, registered once: nothing is copied on this
/// side.
///
/// Threads: any, but not while a request that uses it is under way.
public final class VolumeBuffer: @unchecked Sendable {
  let region: MemoryRegion
  private let protectionDomain: any ProtectionDomain

  init(_ region: MemoryRegion, of protectionDomain: any ProtectionDomain) {
    self.region = region
    self.protectionDomain = protectionDomain
  }

  deinit { protectionDomain.deregister(region) }

  public var byteCount: Int { region.byteCount }

  /// Lends the bytes to `body`. Unsafe: they must not be used after it returns.
  @unsafe
  public func withBytes<Result, Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(region.bytes)
  }
}
