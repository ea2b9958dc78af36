import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import Foundation
import Testing

@testable import FabricSharedMemory

/// Two adapters of this process that meet over a socket.
final class SharedMemoryFixture: ContractFixture {
  private let options: SharedMemoryOptions

  init(_ mode: SharedMemoryOptions.Mode) { options = SharedMemoryOptions(mode: mode) }

  func makePair() throws -> ContractPair {
    let path = "/tmp/fabric-contract-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    return ContractPair(
      client: try RecordingAdapter(options), server: try RecordingAdapter(options),
      address: FabricAddress(fabric: "shm", endpoint: path))
  }

  func pump() {}

  var now: MonotonicTime { .now }

  /// What a peer sees of a death: the sockets hang up without a goodbye, and nothing more comes.
  func kill(_ adapter: any Adapter) -> Bool {
    guard let adapter = adapter as? RecordingAdapter, !adapter.queuePairs.isEmpty,
      adapter.queuePairs.contains(where: { $0.state == .readyToSend })
    else { return false }
    for queuePair in adapter.queuePairs { queuePair.connection.hangUp() }
    return true
  }

  var longRunMessageCount: Int { 100_000 }
}

@Suite("Shared-memory adapter: contract", .serialized)
struct SharedMemoryContractTests {
  /// By file of checks: messages SM-10, SM-12, SM-13; keys SM-23, SM-31 (with writes in
  /// flight; in direct mode SM-52); remote memory SM-30, SM-32, SM-43; queues SM-4, SM-45; connections
  /// SM-41, SM-47; ends SM-46, SM-48.
  @Test(
    "keeps the contract",
    arguments: ContractSuite.checks, [SharedMemoryOptions.Mode.isolated, .direct])
  func keepsTheContract(_ check: ContractCheck, _ mode: SharedMemoryOptions.Mode) throws {
    let outcome = try check.run(SharedMemoryFixture(mode))
    if case .notApplicable(let why) = outcome {
      print("skipped: shared memory, \(check.name): \(why)")
    }
  }
}

/// A shared-memory adapter that remembers its queue pairs.
final class RecordingAdapter: Adapter, @unchecked Sendable {
  private let adapter: SharedMemoryAdapter
  private(set) var queuePairs: [SharedMemoryQueuePair] = []

  init(_ options: SharedMemoryOptions) throws { adapter = try SharedMemoryAdapter(options) }

  var fabric: String { adapter.fabric }
  var capabilities: AdapterCapabilities { adapter.capabilities }

  func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    try adapter.makeProtectionDomain()
  }
  func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue {
    try adapter.makeCompletionQueue(capacity: capacity)
  }
  func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    try adapter.makeSharedReceiveQueue(in: protectionDomain, capacity: capacity)
  }
  func makeQueuePair(_ attributes: QueuePairAttributes) throws(ResourceError) -> any QueuePair {
    let queuePair = try adapter.makeQueuePair(attributes)
    if let queuePair = queuePair as? SharedMemoryQueuePair { queuePairs.append(queuePair) }
    return queuePair
  }
  func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    try adapter.makeEventChannel()
  }
  func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    try adapter.listen(at: address, events: events)
  }
  func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    try adapter.connect(
      queuePair, to: address, privateData: privateData, timeout: timeout, events: events)
  }
}
