import FabricCommandLine
import FabricFrontEnds
import FabricNBD
import FabricPlatform
import FabricStorage

extension Serve {
  static let nbdSynopsis = "HOST:PORT|unix:PATH"

  /// Where to serve NBD clients, in the order given; a name stands for all its addresses.
  func parseNBDAddresses() throws(ToolFailure) -> [StreamAddress] {
    var addresses: [StreamAddress] = []
    for text in nbd {
      for address in try parseNBDAddress(text) {
        guard !addresses.contains(address) || address.place.hasSuffix(":0") else {
          throw ToolFailure(64, "expected each --nbd once, got \(address) twice; leave one out")
        }
        addresses.append(address)
      }
    }
    return addresses
  }

  private func parseNBDAddress(_ text: String) throws(ToolFailure) -> [StreamAddress] {
    if text.hasPrefix("unix:") {
      let path = FileKind.absolutePath(String(text.dropFirst(5)))
      guard text.utf8.count > 5, path.utf8.count <= SequencedSocket.maximumPathByteCount else {
        throw ToolFailure(
          64,
          "expected --nbd unix:PATH with a path of 1 to \(SequencedSocket.maximumPathByteCount) "
            + "bytes, got \"\(text)\"; choose another one")
      }
      return [.local(path: path)]
    }
    return try keylessAddresses(
      text, option: "--nbd", protocolName: "NBD",
      form: "\(Self.nbdSynopsis), such as 127.0.0.1:\(NBDServer.standardPort) or "
        + "unix:/run/user/1000/nbd.sock")
  }

  func serveNBD(
    at addresses: [StreamAddress], _ layer: CommonLayer, _ carrier: Carrier,
    _ rights: VolumeRights?
  ) throws(ToolFailure) -> NBDServer {
    var options = FrontEndOptions()
    options.rights = rights
    options.log = log
    do throws(FrontEndError) {
      return try NBDServer(
        layer: layer, service: carrier.service, addresses: addresses, depth: depth,
        options: options)
    } catch {
      if case .system = error { throw ToolFailure(71, "\(error)") }
      throw ToolFailure(69, "\(error)")
    }
  }
}
