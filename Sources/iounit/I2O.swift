import FabricCommandLine
import FabricI2O
import FabricIOUnit
import FabricStorage
import FabricVerbs

extension Serve {
  /// Where to serve I2O hosts, in the order given.
  func parseI2OAddresses() throws(ToolFailure) -> [FabricAddress] {
    try parseAddresses(i2o, fabricOption("--i2o"))
  }

  /// A server for each fabric among the addresses.
  ///
  /// - Parameter options: as for hosts of the unit's own protocol.
  func serveI2O(
    at addresses: [FabricAddress], _ layer: CommonLayer, _ carrier: Carrier,
    _ options: IOUnitServer.Options
  ) throws(ToolFailure) -> [I2OServer] {
    var own = I2OServer.Options()
    own.unitName = name
    own.depth = depth
    own.keys = options.keys
    own.rights = options.rights
    own.log = log
    var servers: [I2OServer] = []
    do {
      for adapter in try adapters(for: addresses) {
        servers.append(
          try I2OServer(
            layer: layer, service: carrier.service, adapter: adapter,
            addresses: addresses.filter { $0.fabric == adapter.fabric }, options: own))
      }
      return servers
    } catch {
      for server in servers { server.stop() }
      switch error {
      case let failure as ToolFailure: throw failure
      case I2OServerError.resources: throw ToolFailure(71, "\(error)")
      default: throw ToolFailure(69, "\(error)")
      }
    }
  }
}
