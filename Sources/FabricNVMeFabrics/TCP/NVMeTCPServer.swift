public import FabricCompletion
public import FabricFrontEnds
public import FabricNVMe
public import FabricStorage

/// Lets hosts reach an NVM subsystem over TCP. (NVMe/TCP Transport 1.0)
///
/// Threads: `init` and `stop` on any but the service's own.
public final class NVMeTCPServer: Sendable {
  private let frontEnd: StreamFrontEnd

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - target: the subsystem, on the same service.
  ///   - addresses: TCP's, at least one.
  /// - Throws: `FrontEndError`; nothing is left behind.
  public init(
    _ target: NVMeTarget, layer: CommonLayer, service: CompletionService,
    addresses: [StreamAddress], options: FrontEndOptions = .init()
  ) throws(FrontEndError) {
    frontEnd = try StreamFrontEnd(
      name: "NVMe/TCP \(addresses[0])", layer: layer, service: service, addresses: addresses,
      options: options
    ) { stream, frontEnd in
      TCPQueue(target, frontEnd: frontEnd, stream: stream)
    }
    target.add(
      frontEnd.addresses.compactMap { address in
        guard case .internet(let place) = address else { return nil }
        return DiscoveryEntry(transport: .tcp, at: place)
      })
  }

  /// Where it listens, in the order given.
  public var addresses: [StreamAddress] { frontEnd.addresses }

  /// Ends every connection, lets what ports had accepted end, and returns when nothing is called any
  /// more.
  public func stop() { frontEnd.stop() }
}
