/// The name of a Unix socket that this process listens at.
public struct SocketPath: Sendable {
  public let path: String
  /// Which file it is: as long as it is open, no other has this identity.
  private let identity: FileIdentity?

  /// Listens at a path, in place of a socket that was left behind by a process that is gone: one that
  /// refuses connections.
  ///
  /// That is done under the directory's lock, so that nobody takes a socket that is about to be listened
  /// at, or has just been taken over, for one that was left behind. Who cannot have the lock takes nothing
  /// over.
  ///
  /// - Parameters:
  ///   - listen: makes the file; `.addressInUse` when something is there.
  ///   - connect: tries whether somebody listens there; `.connectionRefused` when nobody does.
  public static func claim<Socket>(
    _ path: String, listen: (_ path: String) throws(Errno) -> Socket,
    connect: (_ path: String) throws(Errno) -> Void
  ) throws(Errno) -> (socket: Socket, name: SocketPath) {
    let lock: DirectoryLock?
    do throws(Errno) {
      lock = try DirectoryLock(around: path, patience: .seconds(2))
    } catch {
      lock = nil
    }
    do {
      return (try listen(path), SocketPath(at: path))
    } catch .addressInUse where lock != nil {
      do {
        try connect(path)
      } catch .connectionRefused {
        guard FileKind.isSocket(path) else { throw .addressInUse }
        FileKind.remove(path)
        return (try listen(path), SocketPath(at: path))
      } catch {}
      throw .addressInUse
    }
  }

  private init(at path: String) {
    self.path = path
    identity = FileIdentity(at: path)
  }

  /// Removes the name, unless something else has it by now.
  public func remove() {
    // Without the lock somebody could still come in between, but the name should not stay for that.
    let lock = try? DirectoryLock(around: path, patience: .milliseconds(100))
    if let identity, identity == FileIdentity(at: path) { FileKind.remove(path) }
    _ = consume lock
  }

  /// Why a path cannot be listened at: what was expected, what came, what to do. Nil for errors that say
  /// nothing of the path.
  public static func reason(_ error: Errno, at path: String) -> String? {
    switch error {
    case .fileNameTooLong:
      "expected a socket path of 1 to \(SequencedSocket.maximumPathByteCount) bytes, got "
        + "\(path.utf8.count): choose a shorter one"
    case .addressInUse where !FileKind.isSocket(path):
      "expected a free path, but a file that is no socket is at \(path): choose another path"
    case .addressInUse:
      "expected a free path, but something is at \(path) already: stop the process that listens "
        + "there or choose another path"
    case .noSuchFileOrDirectory:
      "expected a directory to make the socket \(path) in, found none: make it or choose another "
        + "path"
    case .permissionDenied, .notPermitted, .readOnlyFileSystem:
      "expected a directory that user \(CallingUser.id) may make the socket \(path) in, got "
        + "\"\(error)\": choose another path"
    default: nil
    }
  }
}
