import FabricPlatform
import FabricVerbs

/// Sockets that listen at all addresses that a name stands for.
enum ListeningSockets {
  /// How often a port that the system has chosen for the first address, and that is taken at
  /// another, is given up for a new one.
  private static let attempts = 16

  /// One socket for each place that this machine has; where the port is left open one port for all,
  /// if there is one. (IW-38)
  static func open(
    at places: [InternetAddress], of address: FabricAddress
  ) throws(ConnectError) -> [StreamSocket] {
    for attempt in 1...attempts {
      if let sockets = try open(at: places, of: address, isLast: attempt == attempts) {
        return sockets
      }
    }
    preconditionFailure("the last attempt takes what there is")
  }

  /// Nil when a port that the system chose is taken at another of the addresses.
  private static func open(
    at places: [InternetAddress], of address: FabricAddress, isLast: Bool
  ) throws(ConnectError) -> [StreamSocket]? {
    var sockets: [StreamSocket] = []
    var missing: Errno?
    for place in places {
      let chosen = place.port == 0 && !isLast ? sockets.first?.ownAddress?.port : nil
      do throws(Errno) {
        sockets.append(try StreamSocket.listen(at: place.with(port: chosen ?? place.port)))
      } catch .addressInUse where chosen != nil {
        return nil
      } catch {
        // A name may stand for addresses of a family that this machine does not use.
        guard error == .addressNotAvailable || error == .addressFamilyNotSupported else {
          throw refusal(error, at: place, of: address)
        }
        missing = error
      }
    }
    guard sockets.isEmpty else { return sockets }
    throw refusal(missing ?? .addressNotAvailable, at: places[0], of: address)
  }

  private static func refusal(
    _ error: Errno, at place: InternetAddress, of address: FabricAddress
  ) -> ConnectError {
    let named = address.endpoint
    let endpoint = named == "\(place)" ? named : "\(named) (\(place))"
    return switch error {
    case .addressInUse:
      .addressInUse(
        "expected a free port at \(endpoint), but somebody listens there already: stop it "
          + "or choose another port")
    case .addressNotAvailable:
      .invalidAddress(
        "expected an address of this machine, got \(endpoint): see \"ip address\"")
    case .permissionDenied:
      .invalidAddress(
        "expected a port that user \(CallingUser.id) may listen at, got \(endpoint): choose "
          + "one above 1023")
    default: .system(error, doing: "listening at \(endpoint)")
    }
  }
}
