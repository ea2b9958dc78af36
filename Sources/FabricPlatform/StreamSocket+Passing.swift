import CFabricLinux

/// A descriptor that came with a message, closed when nobody holds it any more.
public final class PassedDescriptor: Sendable {
  public let descriptor: Descriptor

  public init(owning number: CInt) { descriptor = Descriptor(owning: number) }

  public var number: CInt { descriptor.rawValue }

  /// Bytes of the file; nil when the kernel does not say.
  public var fileByteCount: UInt64? {
    var status = stat()
    guard unsafe fstat(number, &status) == 0, status.st_size >= 0 else { return nil }
    return UInt64(status.st_size)
  }

  /// Whether it is an `eventfd`: what is written to it goes nowhere else.
  public var isEvent: Bool {
    var text = [UInt8](repeating: 0, count: 32)
    let count = unsafe text.withUnsafeMutableBytes { bytes in
      unsafe readlink("/proc/self/fd/\(number)", bytes.baseAddress!, bytes.count)
    }
    guard count > 0 else { return false }
    return String(decoding: text.prefix(count), as: UTF8.self) == "anon_inode:[eventfd]"
  }

  /// Of an `eventfd`: makes it readable.
  public func signal() {
    var one: UInt64 = 1
    _ = unsafe write(number, &one, 8)
  }

  /// Has whoever uses the open file never wait for it.
  public func neverWait() throws(Errno) {
    let number = number
    try Errno.check { fabric_set_nonblocking(number) }
  }

  /// Whether it is memory whose size nobody can lessen any more, in ordinary pages: using a map of it raises
  /// no SIGBUS, whoever else holds it.
  public var isSealedMemory: Bool {
    let seals = fabric_get_seals(number)
    return seals >= 0 && seals & fabric_seal_shrink != 0
      && fabric_is_ordinary_memory(number) != 0
  }
}

extension StreamSocket {
  /// What `receivePassing` found.
  public enum Passed {
    /// Nothing waits.
    case nothing
    /// The peer closed its end or died.
    case hangUp
    /// So many bytes, and the descriptors that came with them. `isTruncated` when there were more than a
    /// message may carry.
    case bytes(Int, descriptors: [PassedDescriptor], isTruncated: Bool)
  }

  /// The most descriptors that go with one piece.
  public static var maximumPassedCount: Int { Int(fabric_max_passed_descriptors) }

  /// A local stream's connected pair.
  public static func localPair() throws(Errno) -> (StreamSocket, StreamSocket) {
    var numbers: [CInt] = [-1, -1]
    let result = unsafe numbers.withUnsafeMutableBufferPointer {
      unsafe fabric_stream_pair($0.baseAddress!)
    }
    guard result == 0 else { throw Errno.current }
    return (
      StreamSocket(owning: Descriptor(owning: numbers[0])),
      StreamSocket(owning: Descriptor(owning: numbers[1]))
    )
  }

  /// Takes ownership of a connected local socket that came with a message and makes it one that never blocks.
  ///
  /// - Throws: `.notSocket` when it is none.
  public convenience init(passed: PassedDescriptor) throws(Errno) {
    guard fabric_is_stream(passed.number) != 0 else { throw Errno.notSocket }
    let copy = try passed.descriptor.duplicate()
    let number = copy.rawValue
    try Errno.check { fabric_set_nonblocking(number) }
    self.init(owning: copy)
  }

  /// Sends bytes of a local socket with descriptors (borrowed; the peer gets its own copies); all or
  /// none.
  ///
  /// - Throws: `.wouldBlock` when there is no room for all of them, `.brokenPipe` when the peer is gone.
  public func sendPassing(
    _ bytes: UnsafeRawBufferPointer, descriptors: [CInt] = []
  ) throws(Errno) {
    precondition(descriptors.count <= Self.maximumPassedCount, "too many descriptors")
    let number = number
    let sent = try Errno.check {
      unsafe fabric_send_with_descriptors(
        number, bytes.baseAddress, bytes.count, descriptors, CInt(descriptors.count))
    }
    // A message of which a part is on its way cannot be taken back.
    guard sent == bytes.count else { throw .wouldBlock }
  }

  /// Receives at most as many bytes of a local socket as `room` takes. What `room` does not take stays, but
  /// for descriptors, which come with the first byte of what they were sent with.
  public func receivePassing(_ room: UnsafeMutableRawBufferPointer) -> Passed {
    let number = number
    return unsafe withUnsafeTemporaryAllocation(
      of: CInt.self, capacity: Self.maximumPassedCount
    ) { numbers in
      var count: CInt = 0
      var truncated: CInt = 0
      while true {
        let result = unsafe fabric_receive_with_descriptors(
          number, room.baseAddress, room.count, numbers.baseAddress, &count, &truncated)
        if result > 0 {
          var passed: [PassedDescriptor] = []
          for index in 0..<Int(count) {
            passed.append(PassedDescriptor(owning: unsafe numbers[index]))
          }
          return .bytes(result, descriptors: passed, isTruncated: truncated != 0)
        }
        if result == 0 { return .hangUp }
        switch Errno.current {
        case .interrupted, .connectionReset: continue
        case .wouldBlock: return .nothing
        default: return .hangUp
        }
      }
    }
  }
}
