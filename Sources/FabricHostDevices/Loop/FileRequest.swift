import CFabricFUSE

/// A request of the kernel's, as libfuse knows it until it is answered: once, on the thread that serves
/// the file. The corresponding C type is `fuse_req_t`.
@safe
struct FileRequest: BitwiseCopyable {
  /// 0: none.
  private let address: UInt

  static let none = FileRequest(address: 0)

  private init(address: UInt) { self.address = address }

  init(_ request: fuse_req_t?) { address = UInt(bitPattern: request) }

  private var request: fuse_req_t? { unsafe OpaquePointer(bitPattern: address) }

  /// Ends it with a number of `errno`; 0: done.
  func end(_ number: CInt) { _ = unsafe fuse_reply_err(request, number) }

  /// Ends a write.
  func endWrite(byteCount: Int) { _ = unsafe fuse_reply_write(request, byteCount) }

  /// Ends what is answered with no bytes.
  func endEmpty() { _ = unsafe fuse_reply_buf(request, nil, 0) }

  /// Ends what is answered with bytes. Unsafe: there are as many from `place` on.
  @unsafe
  func end(_ place: UnsafeRawPointer, byteCount: Int) {
    _ = unsafe fuse_reply_buf(request, place.assumingMemoryBound(to: CChar.self), byteCount)
  }

  /// Ends an opening: the file is read and written past the page cache. Unsafe: libfuse's own.
  @unsafe
  func endOpen(_ file: UnsafeMutablePointer<fuse_file_info>) {
    _ = unsafe fabric_fuse_reply_open_direct(request, file)
  }

  /// Ends an ioctl, with bytes for its caller. Unsafe: they are read before it returns.
  @unsafe
  func endControl(_ bytes: UnsafeRawBufferPointer) {
    _ = unsafe fuse_reply_ioctl(request, 0, bytes.baseAddress, bytes.count)
  }

  func end(entry: inout fuse_entry_param) { _ = unsafe fuse_reply_entry(request, &entry) }

  func end(attributes: inout stat, validity: Double) {
    _ = unsafe fuse_reply_attr(request, &attributes, validity)
  }

  func end(space: inout statvfs) { _ = unsafe fuse_reply_statfs(request, &space) }

  /// Ends a reading of the directory with its one name.
  func end(name: String, attributes: inout stat, limit: Int) {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
      let count = unsafe fuse_add_direntry(
        request, buffer.baseAddress, buffer.count, name, &attributes, 1)
      _ = unsafe fuse_reply_buf(request, buffer.baseAddress, min(count, limit))
    }
  }
}
