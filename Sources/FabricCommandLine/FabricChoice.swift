public import ArgumentParser
import FabricRDMA
import FabricSharedMemory
public import FabricTCP
public import FabricVerbs

/// How the tools reach a fabric, by its name in addresses.
public struct FabricChoice: Sendable {
  /// In the order in which they are named to people.
  public static let names = ["shm", "tcp", "rdma"]

  /// Shared memory: whether the sender writes into the receiver's buffers.
  public var isDirect: Bool
  public var checksums: TCPOptions.Checksums
  /// TCP and RDMA: whether `listen` takes addresses that other machines can reach.
  public var listensBeyondLoopback: Bool
  /// RDMA: whether peers are others' programs, with private data of their protocol's.
  public var peersAreForeign = false
  /// Told of what an operator should know, one line each.
  public var log: @Sendable (String) -> Void

  public init(
    isDirect: Bool, checksums: TCPOptions.Checksums, listensBeyondLoopback: Bool = true,
    log: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.log = log
    self.isDirect = isDirect
    self.checksums = checksums
    self.listensBeyondLoopback = listensBeyondLoopback
  }

  /// - Parameters:
  ///   - fabric: one of `names`.
  ///   - address: what it is for, which may decide which device it is of.
  ///   - isListening: the address is to be listened at, and otherwise connected to.
  /// - Throws: with code 71 when the system lacks something.
  public func adapter(
    for fabric: String, at address: FabricAddress? = nil, isListening: Bool = false
  ) throws(ToolFailure) -> any Adapter {
    do {
      switch fabric {
      case "shm":
        var options = SharedMemoryOptions(mode: isDirect ? .direct : .isolated)
        options.log = log
        return try SharedMemoryAdapter(options)
      case "tcp":
        var options = TCPOptions()
        options.checksums = checksums
        options.listensBeyondLoopback = listensBeyondLoopback
        options.log = log
        return try TCPAdapter(options)
      case "rdma":
        var options = RDMAOptions()
        options.listensBeyondLoopback = listensBeyondLoopback
        options.hasPlainPrivateData = peersAreForeign
        options.log = log
        do {
          return try RDMAAdapter(options, for: address, isListening: isListening)
        } catch { throw ToolFailure(71, Self.words(error)) }
      default:
        throw ToolFailure(
          64, "expected one of the fabrics \(Self.names.joined(separator: ", ")), got \(fabric)")
      }
    } catch let error as ToolFailure {
      throw error
    } catch { throw ToolFailure(71, "\(error)") }
  }

  /// Why there is no RDMA, and what to do about the first thing that stands in the way.
  private static func words(_ error: ResourceError) -> String {
    if case .refused(let words) = error { return "\(words); `iohost doctor` says more" }
    let survey = RDMASurvey.take()
    let problem = survey.problems.first ?? survey.devices.lazy.compactMap(\.problem).first
    return
      "fabric+rdma wants an RDMA device: \(problem?.description ?? error.description); "
      + "`iohost doctor` says more"
  }
}

/// What tools let people choose of the fabric over TCP.
public struct ChecksumOptions: ParsableArguments {
  @Option(
    name: .long,
    help: """
      TCP: whether what is sent carries a CRC-32C of its own: automatic (unless both ends are on \
      this machine), always or never. One end that wants it is enough.
      """)
  public var checksums = TCPOptions.Checksums.automatic

  public init() {}
}

extension TCPOptions.Checksums: ExpressibleByArgument {}
