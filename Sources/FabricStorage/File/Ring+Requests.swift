import CFabricURing
import FabricRing

/// A file's requests. One entry each; the ring is as large as the queue is deep and a request has at
/// most one entry under way, so there is always room.
extension Ring {
  func read(tag: UInt32, address: UInt64, byteCount: UInt32, offset: UInt64) {
    mustFit(unsafe fabric_uring_read(entries, UInt64(tag), address, byteCount, offset))
  }

  func write(tag: UInt32, address: UInt64, byteCount: UInt32, offset: UInt64, isDurable: Bool) {
    let flags = isDurable ? fabric_rwf_dsync : 0
    mustFit(unsafe fabric_uring_write(entries, UInt64(tag), address, byteCount, offset, flags))
  }

  func syncData(tag: UInt32) {
    mustFit(unsafe fabric_uring_datasync(entries, UInt64(tag)))
  }

  func allocate(tag: UInt32, mode: CInt, offset: UInt64, byteCount: UInt64) {
    mustFit(unsafe fabric_uring_fallocate(entries, UInt64(tag), mode, offset, byteCount))
  }

  @inline(__always)
  private func mustFit(_ done: Bool) {
    precondition(done, "more entries than requests")
  }
}
