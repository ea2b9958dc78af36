import FabricIOProtocol
import FabricPlatform
import FabricVerbs

extension VolumeDiscovery.Listing {
  /// The ways to a volume of the unit that was asked at `address`: that one first, then the others that
  /// the unit names and that may be reached from here. A socket that is no file here is left out, and so
  /// is what stands for this machine alone where the unit was asked over a network.
  ///
  /// What really is the volume is found out when it is attached: a path to another one is not used.
  public func paths(to address: VolumeAddress) -> [VolumeAddress] {
    var paths = [address]
    for entry in addresses {
      let path = VolumeAddress(unit: entry.address, volumeName: address.volumeName)
      guard !paths.contains(path), mayBeReached(entry.address, askedAt: address.unit) else {
        continue
      }
      paths.append(path)
    }
    return Array(paths.prefix(RemoteVolumeQueue.maximumPathCount))
  }

  private func mayBeReached(_ address: FabricAddress, askedAt asked: FabricAddress) -> Bool {
    if address.fabric == "shm" { return FileKind.isSocket(address.endpoint) }
    guard let found = try? InternetAddress.resolve(address.endpoint) else { return false }
    guard asked.fabric != "shm", let own = try? InternetAddress.resolve(asked.endpoint) else {
      return true
    }
    return own.contains(where: \.isLoopback) || !found.allSatisfy(\.isLoopback)
  }
}
