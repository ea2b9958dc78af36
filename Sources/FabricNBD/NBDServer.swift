import FabricBounded
public import FabricCompletion
public import FabricFrontEnds
import FabricNBDProtocol
public import FabricStorage

/// Serves the volumes of a common layer by the NBD protocol, which `Specs/NBD.md` says how far.
///
/// Threads: `init` and `stop` on any but the service's own; the work is done on the first thread of
/// the service, which other front ends and an I/O unit may share.
public final class NBDServer: Sendable {
  /// What rights (`FrontEndOptions.rights`) call every NBD client: the protocol has no names. (NB-41)
  public static let hostName = "nbd"
  /// The port that clients take where none is named.
  public static let standardPort: UInt16 = 10809

  private let frontEnd: StreamFrontEnd

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - service: has threads of its own and outlives this object.
  ///   - addresses: where to listen, at least one.
  ///   - depth: requests in flight on one connection, 1 to 1024.
  ///   - options: with at least 32 MiB for larger buffers.
  /// - Throws: `FrontEndError`; nothing is left behind.
  public init(
    layer: CommonLayer, service: CompletionService, addresses: [StreamAddress], depth: Int = 128,
    options: FrontEndOptions = .init()
  ) throws(FrontEndError) {
    precondition((1...1024).contains(depth), "a depth of 1 to 1024")
    precondition(
      options.largeBufferByteLimit >= Int(NBD.maximumPayloadByteCount), "room for one request")
    let table = NBDConnections(depth: depth)
    frontEnd = try StreamFrontEnd(
      name: "nbd \(addresses.first.map { "\($0)" } ?? "")", layer: layer, service: service,
      addresses: addresses, options: options
    ) { stream, frontEnd in
      NBDConnection(stream, frontEnd, table)
    }
  }

  /// Where it listens, in the order given, with ports that the system chose.
  public var addresses: [StreamAddress] { frontEnd.addresses }

  /// Connections there are now, those included that have not chosen an export. Waits for the
  /// service's thread; not from there.
  public var connectionCount: Int { frontEnd.streamCount }

  /// Takes nobody any more, ends every connection, lets what was accepted end, and returns when
  /// nothing is called any more. The service goes on.
  public func stop() { frontEnd.stop() }

  /// How clients write an address: `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`. (NB-40)
  public static func uri(of address: StreamAddress) -> String {
    switch address {
    case .internet(let place): "nbd://\(place)"
    case .local(let path): "nbd+unix:///?socket=" + escaped(path)
    }
  }

  /// (RFC 3986 section 3.4)
  private static func escaped(_ path: String) -> String {
    let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/".utf8)
    return path.utf8.map { byte in
      if plain.contains(byte) { return String(UnicodeScalar(byte)) }
      let digits = String(byte, radix: 16, uppercase: true)
      return digits.count == 1 ? "%0\(digits)" : "%\(digits)"
    }.joined()
  }
}

/// The connections that have an export. Confined to the service's thread.
final class NBDConnections: @unchecked Sendable {
  /// Part of a volume in a reply to BLOCK_STATUS.
  struct Extent: BitwiseCopyable {
    var byteCount: UInt32 = 0
    var flags: UInt32 = 0
  }

  let depth: Int
  /// Room for the most extents that one reply has.
  let extents = FixedTable(repeating: Extent(), count: 256)
  private var connections: [NBDConnection] = []

  init(depth: Int) { self.depth = depth }

  func add(_ connection: NBDConnection) { connections.append(connection) }
  func remove(_ connection: NBDConnection) { connections.removeAll { $0 === connection } }

  /// A flush of one connection says that writes may be lost. Whose they were nobody knows: each
  /// other connection to the volume that has written is told at its next flush. (NB-27)
  func spreadLoss(from source: NBDConnection, of volume: Volume) {
    for connection in connections where connection !== source {
      connection.hearOfLoss(of: volume)
    }
  }
}
