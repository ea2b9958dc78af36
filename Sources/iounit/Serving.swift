import FabricCommandLine
import FabricCompletion
import FabricI2O
import FabricIOUnit
import FabricNBD
import FabricVerbs

/// The thread that carries everything that is served: the fabric's, or one of its own where no host
/// comes over a fabric.
struct Carrier {
  let fabric: UnitFabric?
  let service: CompletionService

  init(adapters: [any Adapter]) throws(ToolFailure) {
    do {
      if adapters.isEmpty {
        fabric = nil
        var options = CompletionService.Options()
        options.threadCount = 1
        service = try CompletionService(options)
      } else {
        let fabric = try UnitFabric(adapters)
        self.fabric = fabric
        service = fabric.service
      }
    } catch { throw ToolFailure(71, "\(error)") }
  }
}

/// Everything that is served, and where.
struct Serving {
  /// Addresses, for whoever reads the line that begins with "ready".
  private(set) var places: [String] = []
  private let carrier: Carrier
  private var unit: IOUnitServer?
  private var stops: [() -> Void] = []

  init(_ carrier: Carrier) { self.carrier = carrier }

  mutating func add(_ unit: IOUnitServer) {
    self.unit = unit
    places += unit.addresses.map { "\($0)" }
  }

  mutating func add(_ server: I2OServer) {
    stops.append { server.stop() }
    places += server.addresses.map { "i2o+\($0)" }
  }

  mutating func add(_ server: NBDServer) {
    stops.append { server.stop() }
    places += server.addresses.map(NBDServer.uri)
  }

  mutating func add(_ service: NVMeService) {
    stops.append { service.stop() }
    places += service.addresses
  }

  /// Ends all of it in order: the unit last, with whom the thread ends.
  func stop() {
    for stop in stops { stop() }
    if let unit { unit.stop() } else { carrier.service.stop() }
  }
}
