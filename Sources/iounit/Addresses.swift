import FabricCommandLine
import FabricPlatform
import FabricVerbs

extension Serve {
  /// Where to listen, in the order given.
  func parseAddresses() throws(ToolFailure) -> [FabricAddress] {
    var addresses: [FabricAddress] = []
    for text in listen {
      let address = try parseAddress(text)
      guard !addresses.contains(address) else {
        throw ToolFailure(64, "expected each --listen once, got \(address) twice; leave one out")
      }
      addresses.append(address)
    }
    return addresses
  }

  private func parseAddress(_ text: String) throws(ToolFailure) -> FabricAddress {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0] == "shm", !parts[1].isEmpty else {
      throw ToolFailure(
        64,
        "expected --listen shm:PATH, such as shm:/run/user/1000/unit.sock, got \"\(text)\"")
    }
    // Hosts are told this path, and run elsewhere.
    let path = FileKind.absolutePath(String(parts[1]))
    let byteCount = path.utf8.count
    guard byteCount <= SequencedSocket.maximumPathByteCount else {
      throw ToolFailure(
        64,
        "expected --listen shm:PATH with a path of at most "
          + "\(SequencedSocket.maximumPathByteCount) bytes, got \(byteCount); choose a shorter one")
    }
    return FabricAddress(fabric: "shm", endpoint: path)
  }
}
