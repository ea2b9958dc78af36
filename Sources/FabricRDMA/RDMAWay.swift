import CFabricVerbs
import FabricPlatform
import Synchronization

/// Which device, port and GID the connection manager chose for a peer, in words for an operator.
final class RDMAWays: Sendable {
  private let log: @Sendable (String) -> Void
  /// Those that were told of.
  private let told = Mutex<Set<String>>([])
  private static let capacity = 1024

  init(_ log: @escaping @Sendable (String) -> Void) { self.log = log }

  /// Tells of a way, unless it was told already.
  ///
  /// - Parameters:
  ///   - peer: HOST:PORT; connections to one host take one way.
  ///   - index: of the GID in the port's table; nil for iWARP, which has none to choose.
  func tell(to peer: String, by device: OpenDevice, gidIndex index: UInt8?) {
    let host = peer.lastIndex(of: ":").map { peer[..<$0] } ?? peer[...]
    var words = "rdma: \(host) by \(device.name) port \(device.port)"
    if let index {
      words += ", GID \(index)"
      if let gid = device.gid(Int(index)) { words += " (\(gid), \(gid.kind.rawValue))" }
    }
    let isNew = told.withLock { told in
      // Who has that many peers has seen enough of them.
      told.count < Self.capacity && told.insert(words).inserted
    }
    if isNew { log(words) }
  }
}

extension OpenDevice {
  /// A name of the port by its index; nil when it is not there.
  func gid(_ index: Int) -> RDMAGID? {
    var entry = ibv_gid_entry()
    guard unsafe fabric_verbs_gid(context, UInt32(port), UInt32(index), &entry) == 0 else {
      return nil
    }
    return RDMAGID(entry, of: isIWARP ? .iWARP : .infiniBand)
  }

  /// The device that an address leads to, by the connection manager; nil when there is none, or it
  /// cannot be found out now.
  ///
  /// - Parameter isListening: the address is one of this machine's, to listen at. Otherwise it is a peer's.
  static func name(reaching endpoint: String, isListening: Bool) -> String? {
    guard let hosts = try? InternetAddress.resolve(endpoint) else { return nil }
    return hosts.lazy.compactMap { name(reaching: $0, isListening: isListening) }.first
  }

  private static func name(reaching host: InternetAddress, isListening: Bool) -> String? {
    var made: UnsafeMutablePointer<rdma_cm_id>?
    // Without an event channel each call waits for its end.
    guard unsafe rdma_create_id(nil, &made, nil, RDMA_PS_TCP) == 0, let identifier = unsafe made
    else { return nil }
    defer { unsafe rdma_destroy_id(identifier) }
    let status =
      isListening
      ? unsafe fabric_rdma_bind(identifier, host.host, CInt(host.host.count), 0)
      : unsafe fabric_rdma_resolve(identifier, host.host, CInt(host.host.count), host.port, 1000)
    return status == 0 ? unsafe identifier.deviceName : nil
  }
}

extension UnsafeMutablePointer<rdma_cm_id> {
  /// The other end's HOST:PORT.
  var peerDescription: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 80) { text in
      unsafe fabric_rdma_peer(self, text.baseAddress!, 80)
      return unsafe String(cString: text.baseAddress!)
    }
  }

  /// The device that the identifier is bound to.
  var deviceName: String? {
    guard let context = unsafe pointee.verbs else { return nil }
    return unsafe String(cString: ibv_get_device_name(context.pointee.device))
  }
}
