import FabricPlatform

/// A socket that takes connections.
final class ListeningSocket {
  let address: StreamAddress
  let socket: StreamSocket
  /// Which file a Unix socket is: as long as it is open, no other has this identity.
  private let identity: FileIdentity?
  /// After the process had no descriptor left for a peer: nobody wakes up for those who wait.
  var pause = ListeningPause()
  var pauseEnd: MonotonicTime?

  private init(_ socket: StreamSocket, at address: StreamAddress, identity: FileIdentity? = nil) {
    self.socket = socket
    self.address = address
    self.identity = identity
  }

  /// - Throws: `.listening`.
  static func open(at address: StreamAddress) throws(FrontEndError) -> ListeningSocket {
    switch address {
    case .internet(let place):
      do throws(Errno) {
        let socket = try StreamSocket.listen(at: place)
        return ListeningSocket(socket, at: .internet(socket.ownAddress ?? place))
      } catch {
        throw .listening(address: "\(address)", reason: reason(error, at: place))
      }
    case .local(let path):
      do throws(Errno) {
        let (socket, identity) = try listen(atPath: path)
        return ListeningSocket(socket, at: address, identity: identity)
      } catch {
        throw .listening(address: "\(address)", reason: reason(error, atPath: path))
      }
    }
  }

  /// Listens under the directory's lock, so that nobody takes a socket that is about to be listened
  /// at, or has just been taken over, for one that was left behind. Who cannot have the lock takes
  /// nothing over.
  private static func listen(
    atPath path: String
  ) throws(Errno) -> (StreamSocket, FileIdentity?) {
    let lock: DirectoryLock?
    do throws(Errno) {
      lock = try DirectoryLock(around: path, patience: .seconds(2))
    } catch {
      lock = nil
    }
    do {
      return (try StreamSocket.listen(atPath: path), FileIdentity(at: path))
    } catch .addressInUse where lock != nil {
      // A socket that refuses connections was left behind by a process that is gone.
      do {
        _ = try StreamSocket.connect(toPath: path)
      } catch .connectionRefused {
        guard FileKind.isSocket(path) else { throw .addressInUse }
        FileKind.remove(path)
        return (try StreamSocket.listen(atPath: path), FileIdentity(at: path))
      } catch {}
      throw .addressInUse
    }
  }

  /// The next connection, and who made it; nil when none waits.
  ///
  /// - Throws: when the process or the system has nothing left for another.
  func accept() throws(Errno) -> (StreamSocket, StreamPeer)? {
    switch address {
    case .internet:
      guard let (socket, peer) = try socket.accept() else { return nil }
      return (socket, .internet(peer))
    case .local:
      guard let (socket, processID) = try socket.acceptLocal() else { return nil }
      return (socket, .local(processID: processID))
    }
  }

  /// Removes a Unix socket's path, unless something else is there by now.
  func removePath() {
    guard case .local(let path) = address else { return }
    // Without the lock somebody could still come in between, but the name should not stay for that.
    let lock = try? DirectoryLock(around: path, patience: .milliseconds(100))
    if let identity, identity == FileIdentity(at: path) { FileKind.remove(path) }
    _ = consume lock
  }

  // MARK: Words

  private static func reason(_ error: Errno, at place: InternetAddress) -> String {
    switch error {
    case .addressInUse:
      "expected a free port at \(place), but somebody listens there already: stop it or choose "
        + "another port"
    case .addressNotAvailable, .addressFamilyNotSupported:
      "expected an address of this machine, got \(place): see \"ip address\""
    case .permissionDenied:
      "expected a port that user \(CallingUser.id) may listen at, got \(place): choose one above "
        + "1023"
    default: "listening at \(place) failed: \(error)"
    }
  }

  private static func reason(_ error: Errno, atPath path: String) -> String {
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
    default: "listening at \(path) failed: \(error)"
    }
  }
}
