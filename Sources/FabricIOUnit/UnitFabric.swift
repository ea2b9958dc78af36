public import FabricCompletion
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs
import Synchronization

/// Adapters as a unit uses them: one thread for all, and the memory that is registered with each:
/// that of reads from files, and the memory volumes.
///
/// Threads: any.
public final class UnitFabric: Sendable {
  /// Carries the unit on.
  public let service: CompletionService
  /// One for each adapter. Used on the service's thread only.
  let endpoints: [ChannelEndpoint]
  /// Where the first device is that has a node.
  private let node: Int?
  private let memories = Mutex<[ObjectIdentifier: UnitMemory]>([:])

  /// - Parameter spin: time to look for work before sleeping.
  public convenience init(
    _ adapter: any Adapter, spin: Duration = .microseconds(50)
  ) throws(ChannelOpenError) {
    try self.init([adapter], spin: spin)
  }

  /// - Parameters:
  ///   - adapters: at least one, of different fabrics, of which at most one cannot register memory
  ///     that another made.
  ///   - spin: time to look for work before sleeping.
  public convenience init(
    _ adapters: [any Adapter], spin: Duration = .microseconds(50)
  ) throws(ChannelOpenError) {
    let service: CompletionService
    do throws(ResourceError) {
      var options = CompletionService.Options()
      options.threadCount = 1
      options.spin = spin
      // Small batches: the host works on the first answers while the next are made.
      options.budget = 8
      options.numaNode = adapters.lazy.compactMap(\.numaNode).first
      service = try CompletionService(options)
    } catch { throw .resources(error.description) }
    try self.init(adapters, service: service)
  }

  /// As above, carried on by a service of the caller's.
  public init(
    _ adapters: [any Adapter], service: CompletionService
  ) throws(ChannelOpenError) {
    precondition(
      !adapters.isEmpty && Set(adapters.map { $0.fabric }).count == adapters.count,
      "adapters of different fabrics")
    node = adapters.lazy.compactMap(\.numaNode).first
    self.service = service
    // The first one allocates what is registered with all.
    let ordered =
      adapters.filter { !$0.capabilities.hasForeignMemory }
      + adapters.filter { $0.capabilities.hasForeignMemory }
    var endpoints: [ChannelEndpoint] = []
    for adapter in ordered {
      endpoints.append(try ChannelEndpoint(adapter: adapter, service: service))
    }
    self.endpoints = endpoints
  }

  /// The number of the endpoint for addresses of a fabric; nil without an adapter for it.
  func number(of fabric: String) -> Int? {
    endpoints.firstIndex { $0.adapter.fabric == fabric }
  }

  /// Memory that every endpoint can send from and receive into.
  public func allocate(byteCount: Int) throws(RegistrationError) -> UnitMemory {
    try UnitMemory(byteCount: byteCount, in: endpoints.map { $0.protectionDomain }, near: node)
  }

  /// A memory store whose blocks lie in fabric memory, so that reads go from there to the host
  /// without another copy. Lives as long as this object.
  ///
  /// - Throws: `.memoryRefused` when the memory cannot be had or registered; else as `MemoryStore` does.
  public func makeMemoryStore(
    byteCount: UInt64, blockByteCount: UInt32 = 4096, isReadOnly: Bool = false
  ) throws(StoreError) -> MemoryStore {
    guard blockByteCount == 512 || blockByteCount == 4096 else {
      throw .blockSizeNotSupported(blockByteCount: blockByteCount)
    }
    guard byteCount > 0, byteCount.isMultiple(of: UInt64(blockByteCount)) else {
      throw .sizeNotWhole(byteCount: byteCount, blockByteCount: blockByteCount)
    }
    let memory: UnitMemory
    do throws(RegistrationError) {
      memory = try allocate(byteCount: Int(clamping: byteCount))
    } catch {
      throw .memoryRefused(byteCount: byteCount, reason: error.description)
    }
    // This keeps its memory mapped, and the store keeps this.
    let store = unsafe try MemoryStore(
      address: memory.address, byteCount: byteCount, owner: memory,
      blockByteCount: blockByteCount, isReadOnly: isReadOnly)
    memories.withLock { $0[ObjectIdentifier(store)] = memory }
    return store
  }

  /// The fabric memory that holds a store's blocks; nil for any other store.
  func memory(of store: any Store) -> UnitMemory? {
    memories.withLock { $0[ObjectIdentifier(store)] }
  }
}

/// Memory that is registered with each of a unit's endpoints, whichever made it. It goes with the
/// object.
public final class UnitMemory: Sendable {
  private let registrations: [(domain: any ProtectionDomain, region: MemoryRegion)]
  public let address: UInt64
  let byteCount: Int

  /// - Parameters:
  ///   - domains: the first one makes the memory, the others take it as foreign.
  ///   - node: of the device among them; what nobody has touched yet will lie there.
  init(
    byteCount: Int, in domains: [any ProtectionDomain], near node: Int?
  ) throws(RegistrationError) {
    let own = try domains[0].allocate(byteCount: byteCount, access: [.localWrite])
    if let node {
      MemoryNode.prefer(node, for: own.address, byteCount: wholePages(byteCount))
    }
    var registrations = [(domain: domains[0], region: own)]
    do {
      for domain in domains.dropFirst() {
        let region = try domain.register(
          address: own.address, byteCount: own.byteCount, access: [.localWrite], owner: own)
        registrations.append((domain, region))
      }
    } catch {
      for (domain, region) in registrations.reversed() { domain.deregister(region) }
      throw error
    }
    self.registrations = registrations
    address = own.address
    self.byteCount = byteCount
  }

  deinit {
    for (domain, region) in registrations.reversed() { domain.deregister(region) }
  }

  /// What work requests over a fabric of the unit's, by its number, name it with.
  public func localKey(_ endpoint: Int) -> LocalKey { registrations[endpoint].region.localKey }
}
