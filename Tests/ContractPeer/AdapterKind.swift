import FabricRDMA
import FabricSharedMemory
import FabricTCP
import FabricVerbs

/// The adapters that keep the contract between processes, each with the options that matter.
enum AdapterKind: String, Sendable {
  case isolatedMemory, directMemory, plainTCP, summedTCP
  /// The machine's first device.
  case rdma

  /// Those that every machine has.
  static let ofEveryMachine: [AdapterKind] = [
    .isolatedMemory, .directMemory, .plainTCP, .summedTCP,
  ]

  func makeAdapter() throws -> any Adapter {
    var options = TCPOptions()
    switch self {
    case .isolatedMemory: return try SharedMemoryAdapter(SharedMemoryOptions(mode: .isolated))
    case .directMemory: return try SharedMemoryAdapter(SharedMemoryOptions(mode: .direct))
    case .plainTCP: options.checksums = .never
    case .summedTCP: options.checksums = .always
    case .rdma: return try RDMAAdapter()
    }
    return try TCPAdapter(options)
  }
}
