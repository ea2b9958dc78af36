import CFabricLinux

/// A Unix socket that keeps datagrams whole and in order and can pass descriptors. Never blocks.
/// The corresponding C type is an `AF_UNIX` `SOCK_SEQPACKET` socket.
public final class SequencedSocket: Sendable {
  public let descriptor: Descriptor

  /// The process at the other end, as the kernel vouches for it.
  public struct PeerCredentials: Equatable, Sendable {
    public let processID: Int32
    public let userID: UInt32
    public let groupID: UInt32
  }

  /// The most descriptors that one datagram carries.
  public static let maximumDescriptorCount = Int(fabric_max_passed_descriptors)
  /// The longest path a Unix socket may have, in bytes.
  public static var maximumPathByteCount: Int { Int(fabric_unix_path_max) }

  init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// Takes ownership of a connected socket's descriptor.
  public init(connected number: CInt) { descriptor = Descriptor(owning: number) }

  /// Connects to a listener at `path`.
  ///
  /// - Throws: `.noSuchFileOrDirectory` when nothing is there, `.connectionRefused` when nobody
  ///   listens, `.protocolWrongTypeForSocket` when it is another kind of socket.
  public static func connect(to path: String) throws(Errno) -> SequencedSocket {
    try checkLength(of: path)
    let descriptor = try Descriptor(result: fabric_sequenced_socket())
    let number = descriptor.rawValue
    try Errno.check { unsafe fabric_unix_connect(number, path) }
    return SequencedSocket(owning: descriptor)
  }

  /// Listens at `path`, which must not exist.
  public static func listen(at path: String, backlog: Int = 128) throws(Errno) -> SequencedSocket {
    try checkLength(of: path)
    let descriptor = try Descriptor(result: fabric_sequenced_socket())
    let number = descriptor.rawValue
    try Errno.check { unsafe fabric_unix_bind(number, path) }
    do throws(Errno) {
      try Errno.check { CFabricLinux.listen(number, CInt(backlog)) }
    } catch {
      FileKind.remove(path)
      throw error
    }
    return SequencedSocket(owning: descriptor)
  }

  /// The next connection to this listener; nil when none waits.
  public func accept() throws(Errno) -> SequencedSocket? {
    let number = fabric_accept(descriptor.rawValue)
    if number >= 0 { return SequencedSocket(owning: Descriptor(owning: number)) }
    let error = Errno.current
    if error == .wouldBlock || error == .interrupted || error == .connectionAborted { return nil }
    throw error
  }

  /// Who made the other end.
  public func peerCredentials() throws(Errno) -> PeerCredentials {
    var process: CInt = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    let result = unsafe fabric_peer_credentials(descriptor.rawValue, &process, &user, &group)
    guard result == 0 else { throw Errno.current }
    return PeerCredentials(processID: process, userID: user, groupID: group)
  }

  /// Sends one datagram with descriptors (borrowed; the peer gets its own copies).
  ///
  /// - Throws: `.wouldBlock` when the peer has not read what it was sent, `.brokenPipe` when it
  ///   is gone.
  public func send(
    _ bytes: UnsafeRawBufferPointer, descriptors: [CInt] = []
  ) throws(Errno) {
    precondition(descriptors.count <= Self.maximumDescriptorCount)
    let number = descriptor.rawValue
    try Errno.check {
      unsafe fabric_send_with_descriptors(
        number, bytes.baseAddress, bytes.count, descriptors, CInt(descriptors.count))
    }
  }

  /// As `send`, of an array.
  public func send(_ bytes: [UInt8], descriptors: [CInt] = []) throws(Errno) {
    let result: Result<Void, Errno> = unsafe bytes.withUnsafeBytes { raw in
      do throws(Errno) {
        return .success(try unsafe send(raw, descriptors: descriptors))
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// What `receive` found.
  public enum Received: Sendable {
    /// Nothing waits.
    case nothing
    /// The peer closed its end or died.
    case hangUp
    /// A datagram of `byteCount` bytes with descriptors, now the caller's to close. `isTruncated`
    /// when the peer sent more than there was room for.
    case datagram(byteCount: Int, descriptors: [CInt], isTruncated: Bool)
  }

  /// Takes the next datagram into `buffer`.
  public func receive(into buffer: UnsafeMutableRawBufferPointer) -> Received {
    let number = descriptor.rawValue
    return unsafe withUnsafeTemporaryAllocation(
      of: CInt.self, capacity: Self.maximumDescriptorCount
    ) { numbers in
      var count: CInt = 0
      var truncated: CInt = 0
      while true {
        let result = unsafe fabric_receive_with_descriptors(
          number, buffer.baseAddress, buffer.count, numbers.baseAddress, &count, &truncated)
        if result > 0 {
          return .datagram(
            byteCount: result, descriptors: unsafe Array(numbers.prefix(Int(count))),
            isTruncated: truncated != 0)
        }
        if result == 0 { return .hangUp }
        switch Errno.current {
        case .interrupted: continue
        // Said once, when the peer closed with something of ours unread; what it sent before is
        // still to be had.
        case .connectionReset: continue
        case .wouldBlock: return .nothing
        default: return .hangUp
        }
      }
    }
  }

  private static func checkLength(of path: String) throws(Errno) {
    guard !path.isEmpty, path.utf8.count <= maximumPathByteCount else {
      throw Errno.fileNameTooLong
    }
  }
}

extension SequencedSocket {
  /// Sends a datagram of one byte, if there is room for it.
  public static func sendByte(_ byte: UInt8, to number: CInt) {
    var byte = byte
    _ = unsafe CFabricLinux.send(
      number, &byte, 1, CInt(MSG_DONTWAIT) | CInt(MSG_NOSIGNAL))
  }

  /// Ends both directions; the descriptor stays open.
  public static func shutDown(_ number: CInt) { _ = shutdown(number, CInt(SHUT_RDWR)) }
}
