import FabricCommandLine
import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricStorage

extension Serve {
  static let nvmeSynopsis = "HOST:PORT"

  /// Where to serve NVMe/TCP hosts, in the order given; a name stands for all its addresses.
  func parseNVMeAddresses() throws(ToolFailure) -> [StreamAddress] {
    var addresses: [StreamAddress] = []
    for text in nvmeTcp {
      let found = try keylessAddresses(
        text, option: "--nvme-tcp", protocolName: "NVMe",
        form: "\(Self.nvmeSynopsis), such as 127.0.0.1:4420")
      for address in found {
        guard !addresses.contains(address) else {
          throw ToolFailure(
            64, "expected each --nvme-tcp once, got \(address) twice; leave one out")
        }
        addresses.append(address)
      }
    }
    return addresses
  }

  /// - Parameter volumes: namespaces 1, 2, and so on.
  func serveNVMe(
    _ volumes: [Volume], at addresses: [StreamAddress], _ layer: CommonLayer, _ carrier: Carrier,
    _ rights: VolumeRights?
  ) throws(ToolFailure) -> NVMeService {
    var options = NVMSubsystem.Options()
    options.name = nqn
    options.rights = rights
    options.log = log
    return try NVMeService(
      options, at: addresses, layer: layer, service: carrier.service, volumes: volumes)
  }
}

/// The unit as an NVM subsystem, for hosts that know nothing of us.
struct NVMeService {
  private let target: NVMeTarget
  private let server: NVMeTCPServer

  /// Where hosts connect: `nvme+tcp://HOST:PORT`.
  var addresses: [String] { server.addresses.map { "nvme+tcp://\($0)" } }

  /// - Throws: with 69 when an address cannot be listened at, 71 for want of something else.
  init(
    _ options: NVMSubsystem.Options, at addresses: [StreamAddress], layer: CommonLayer,
    service: CompletionService, volumes: [Volume]
  ) throws(ToolFailure) {
    do throws(CommonLayerError) {
      target = try NVMeTarget(options: options, layer: layer, service: service, volumes: volumes)
    } catch { throw ToolFailure(71, "\(error)") }
    var frontEnd = FrontEndOptions()
    frontEnd.log = options.log
    do throws(FrontEndError) {
      server = try NVMeTCPServer(
        target, layer: layer, service: service, addresses: addresses, options: frontEnd)
    } catch {
      target.stop()
      if case .system = error { throw ToolFailure(71, "\(error)") }
      throw ToolFailure(69, "\(error)")
    }
  }

  func stop() {
    server.stop()
    target.stop()
  }
}
