import FabricSharedMemory
import FabricTCP
import FabricVerbs

/// The adapters that keep the contract between processes, each with the options that matter.
enum AdapterKind: String, CaseIterable, Sendable {
  case isolatedMemory, directMemory, plainTCP, summedTCP

  func makeAdapter() throws -> any Adapter {
    var options = TCPOptions()
    switch self {
    case .isolatedMemory: return try SharedMemoryAdapter(SharedMemoryOptions(mode: .isolated))
    case .directMemory: return try SharedMemoryAdapter(SharedMemoryOptions(mode: .direct))
    case .plainTCP: options.checksums = .never
    case .summedTCP: options.checksums = .always
    }
    return try TCPAdapter(options)
  }
}
