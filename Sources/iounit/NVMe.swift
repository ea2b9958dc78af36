import FabricCommandLine
import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricStorage
import FabricVerbs

extension Serve {
  var servesNVMe: Bool { !nvmeTcp.isEmpty || !nvmeRdma.isEmpty }

  static let nvmeSynopsis = "HOST:PORT"

  /// Where to serve NVMe/TCP hosts, in the order given; a name stands for all its addresses.
  func parseNVMeAddresses() throws(ToolFailure) -> [StreamAddress] {
    var addresses: [StreamAddress] = []
    for text in nvmeTcp {
      let found = try keylessAddresses(
        text, option: "--nvme-tcp", protocolName: "NVMe",
        form: "\(Self.nvmeSynopsis), such as 127.0.0.1:4420")
      for address in found {
        guard !addresses.contains(address) || address.place.hasSuffix(":0") else {
          throw ToolFailure(
            64, "expected each --nvme-tcp once, got \(address) twice; leave one out")
        }
        addresses.append(address)
      }
    }
    return addresses
  }

  static let nvmeRDMASynopsis = "tcp:HOST:PORT|rdma:HOST:PORT"

  /// Where to serve NVMe/RDMA hosts, in the order given.
  func parseNVMeRDMAAddresses() throws(ToolFailure) -> [FabricAddress] {
    try parseAddresses(
      nvmeRdma,
      AddressOption(
        name: "--nvme-rdma", fabrics: ["tcp", "rdma"], synopsis: Self.nvmeRDMASynopsis,
        examples: "tcp:127.0.0.1:4421 or rdma:192.0.2.1:4420", reachesOthers: insecure,
        expectation: "an address that only this machine reaches, as NVMe has no keys,"))
  }

  /// - Parameter volumes: namespaces 1, 2, and so on.
  func serveNVMe(
    _ volumes: [Volume], at addresses: [StreamAddress], overRDMA fabricAddresses: [FabricAddress],
    _ layer: CommonLayer, _ carrier: Carrier, _ rights: VolumeRights?
  ) throws(ToolFailure) -> NVMeService {
    var options = NVMSubsystem.Options()
    options.name = nqn
    options.rights = rights
    options.log = log
    let service = try NVMeService(options, layer: layer, carrier: carrier, volumes: volumes)
    do throws(ToolFailure) {
      if !addresses.isEmpty { try service.serve(at: addresses) }
      for fabric in FabricChoice.names {
        let own = fabricAddresses.filter { $0.fabric == fabric }
        guard let first = own.first else { continue }
        var choice = fabricChoice(reachesOthers: insecure)
        choice.peersAreForeign = true
        let adapter = try choice.adapter(for: fabric, at: first, isListening: true)
        try service.serve(at: own, of: adapter)
      }
    } catch {
      service.stop()
      throw error
    }
    return service
  }
}

/// The unit as an NVM subsystem, for hosts that know nothing of us.
final class NVMeService {
  /// Where hosts connect: `nvme+tcp://HOST:PORT`, `nvme+rdma://HOST:PORT`.
  private(set) var addresses: [String] = []
  private let target: NVMeTarget
  private let layer: CommonLayer
  private let service: CompletionService
  private let options: FrontEndOptions
  private var stops: [() -> Void] = []

  /// - Throws: with 71 when the layer refuses it.
  init(
    _ options: NVMSubsystem.Options, layer: CommonLayer, carrier: Carrier, volumes: [Volume]
  ) throws(ToolFailure) {
    self.layer = layer
    service = carrier.service
    do throws(CommonLayerError) {
      target = try NVMeTarget(options: options, layer: layer, service: service, volumes: volumes)
    } catch { throw ToolFailure(71, "\(error)") }
    var frontEnd = FrontEndOptions()
    frontEnd.log = options.log
    self.options = frontEnd
  }

  /// - Throws: with 69 when an address cannot be listened at, 71 for want of something else.
  func serve(at addresses: [StreamAddress]) throws(ToolFailure) {
    do throws(FrontEndError) {
      let server = try NVMeTCPServer(
        target, layer: layer, service: service, addresses: addresses, options: options)
      stops.append { server.stop() }
      self.addresses += server.addresses.map { "nvme+tcp://\($0)" }
    } catch { throw Self.failure(error) }
  }

  /// - Throws: as for streams.
  func serve(at addresses: [FabricAddress], of adapter: any Adapter) throws(ToolFailure) {
    do throws(FrontEndError) {
      let server = try NVMeRDMAServer(
        target, layer: layer, service: service, adapter: adapter, addresses: addresses,
        options: options)
      stops.append { server.stop() }
      self.addresses += server.addresses.map { "nvme+rdma://\($0.endpoint)" }
    } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: FrontEndError) -> ToolFailure {
    if case .listening = error { ToolFailure(69, "\(error)") } else { ToolFailure(71, "\(error)") }
  }

  func stop() {
    for stop in stops { stop() }
    target.stop()
  }
}
