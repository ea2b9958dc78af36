import CFabricLinux

extension StreamSocket {
  /// Listens at `path`, which must not exist. The corresponding C type is an `AF_UNIX` `SOCK_STREAM`
  /// socket.
  ///
  /// - Parameter isPrivate: whether nobody but this user may connect; otherwise the umask decides.
  /// - Throws: `.fileNameTooLong` when the path is empty or longer than
  ///   `SequencedSocket.maximumPathByteCount`, `.addressInUse` when something is there; else
  ///   bind's and listen's errors.
  public static func listen(
    atPath path: String, backlog: Int = 1024, isPrivate: Bool = false
  ) throws(Errno) -> StreamSocket {
    let socket = try local(path)
    let number = socket.number
    try Errno.check { unsafe fabric_unix_bind(number, path) }
    do throws(Errno) {
      // Nobody connects before it listens.
      if isPrivate { try Errno.check { unsafe fabric_make_private(path) } }
      try Errno.check { CFabricLinux.listen(number, CInt(backlog)) }
    } catch {
      FileKind.remove(path)
      throw error
    }
    return socket
  }

  /// Connects to who listens at `path`.
  ///
  /// - Throws: `.connectionRefused` when nobody does any more; else connect's errors.
  public static func connect(toPath path: String) throws(Errno) -> StreamSocket {
    let socket = try local(path)
    let number = socket.number
    try Errno.check { unsafe fabric_unix_connect(number, path) }
    return socket
  }

  private static func local(_ path: String) throws(Errno) -> StreamSocket {
    guard !path.isEmpty, path.utf8.count <= SequencedSocket.maximumPathByteCount else {
      throw Errno.fileNameTooLong
    }
    return StreamSocket(owning: try Descriptor(result: fabric_unix_stream_socket()))
  }

  /// The next connection to a listener at a path, and the number of the process that made it (0
  /// where that is hidden); nil when none waits.
  ///
  /// - Throws: when the process or the system has nothing left for another.
  public func acceptLocal() throws(Errno) -> (StreamSocket, processID: Int32)? {
    let result = fabric_accept(number)
    guard result >= 0 else {
      let error = Errno.current
      if error.isShortage { throw error }
      return nil
    }
    let socket = StreamSocket(owning: Descriptor(owning: result))
    var process: CInt = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    _ = unsafe fabric_peer_credentials(result, &process, &user, &group)
    return (socket, process)
  }

  /// Ends both directions of a local socket: the peer reads what came before, and cannot write any more.
  public func hangUp() { _ = shutdown(number, CInt(SHUT_RDWR)) }

  /// Asks the kernel to keep up to `byteCount` bytes that the peer has not taken; it gives what it
  /// may.
  public func setSendRoom(byteCount: Int) {
    _ = fabric_set_option(number, fabric_level_socket, SO_SNDBUF, CInt(clamping: byteCount))
  }
}

extension Errno {
  /// Whether the process or the system had nothing left for another descriptor.
  var isShortage: Bool {
    [.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace].contains(self)
  }
}
