import FabricWire

/// Where the sockets of one completion queue are read to, one after the other: large, so that one
/// system call brings many messages, and shared, so that an idle connection costs none of it.
///
/// Threads: the completion queue's polling thread.
@safe
final class InputBuffer {
  /// In front of what is read there is room for the beginning of an FPDU that came earlier.
  static let frontByteCount = 66 << 10
  static let bodyByteCount = 128 << 10

  private let base: UnsafeMutableRawPointer
  /// Whose bytes lie here unprocessed; 0: nobody's.
  private(set) var owner: UInt32 = 0
  private(set) var start = 0
  private(set) var end = 0

  init() {
    unsafe base = .allocate(
      byteCount: Self.frontByteCount + Self.bodyByteCount, alignment: 4096)
  }

  deinit { unsafe base.deallocate() }

  var byteCount: Int { end - start }
  var view: WireView { unsafe WireView(base + start, byteCount: end - start) }

  /// Where the next bytes are to be read to.
  var body: UnsafeMutableRawPointer { unsafe base + Self.frontByteCount }

  /// `count` bytes were read to `body`, behind `kept`, which go in front of them.
  func fill(_ count: Int, behind kept: UnsafeRawBufferPointer, for owner: UInt32) {
    start = Self.frontByteCount - kept.count
    end = Self.frontByteCount + count
    if let source = kept.baseAddress {
      unsafe (base + start).copyMemory(from: source, byteCount: kept.count)
    }
    self.owner = owner
  }

  /// Bytes that were set aside come back, as many as the whole has room for.
  func restore(_ bytes: UnsafeRawBufferPointer, for owner: UInt32) {
    start = 0
    end = bytes.count
    unsafe base.copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
    self.owner = owner
  }

  func consume(_ count: Int) { start += count }

  func release() {
    owner = 0
    start = 0
    end = 0
  }

  /// The owner has gone.
  func forget(owner: UInt32) {
    if self.owner == owner { release() }
  }
}
