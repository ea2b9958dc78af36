import FabricPlatform

/// A socket that takes connections.
final class ListeningSocket {
  let address: StreamAddress
  let socket: StreamSocket
  /// Of a Unix socket.
  private let name: SocketPath?
  /// After the process had no descriptor left for a peer: nobody wakes up for those who wait.
  var pause = ListeningPause()
  var pauseEnd: MonotonicTime?

  private init(_ socket: StreamSocket, at address: StreamAddress, name: SocketPath? = nil) {
    self.socket = socket
    self.address = address
    self.name = name
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
        let (socket, name) = try SocketPath.claim(path) { path throws(Errno) in
          try StreamSocket.listen(atPath: path)
        } connect: { path throws(Errno) in
          _ = try StreamSocket.connect(toPath: path)
        }
        return ListeningSocket(socket, at: address, name: name)
      } catch {
        throw .listening(
          address: "\(address)",
          reason: SocketPath.reason(error, at: path) ?? "listening at \(path) failed: \(error)")
      }
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
  func removePath() { name?.remove() }

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
}
