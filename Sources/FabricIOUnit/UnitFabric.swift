public import FabricCompletion
public import FabricMessaging
public import FabricStorage
public import FabricVerbs
import Synchronization

/// An adapter as a unit uses it: one thread, one protection domain, and the memory volumes that lie
/// in it.
///
/// Threads: any.
public final class UnitFabric: Sendable {
  /// Carries the unit on, with a thread of its own.
  public let service: CompletionService
  /// Used on the service's thread only.
  let endpoint: ChannelEndpoint
  private let regions = Mutex<[ObjectIdentifier: MemoryRegion]>([:])

  /// - Parameter spin: time to look for work before sleeping.
  public init(
    _ adapter: any Adapter, spin: Duration = .microseconds(50)
  ) throws(ChannelOpenError) {
    do throws(ResourceError) {
      var options = CompletionService.Options()
      options.threadCount = 1
      options.spin = spin
      // Small batches: the host works on the first answers while the next are made.
      options.budget = 8
      service = try CompletionService(options)
    } catch { throw .resources(error.description) }
    endpoint = try ChannelEndpoint(adapter: adapter, service: service)
  }

  var protectionDomain: any ProtectionDomain { endpoint.protectionDomain }

  /// A memory store whose blocks lie in fabric memory, so that reads go from there to the host
  /// without another copy. Lives as long as this object.
  ///
  /// - Throws: `.noSpace` when the memory cannot be had; else as `MemoryStore` does.
  public func makeMemoryStore(
    byteCount: UInt64, blockByteCount: UInt32 = 4096, isReadOnly: Bool = false
  ) throws(StoreError) -> MemoryStore {
    guard blockByteCount == 512 || blockByteCount == 4096 else {
      throw .blockSizeNotSupported(blockByteCount: blockByteCount)
    }
    guard byteCount > 0, byteCount.isMultiple(of: UInt64(blockByteCount)) else {
      throw .sizeNotWhole(byteCount: byteCount, blockByteCount: blockByteCount)
    }
    let region: MemoryRegion
    do throws(RegistrationError) {
      region = try protectionDomain.allocate(
        byteCount: Int(clamping: byteCount), access: [.localWrite])
    } catch {
      throw .noSpace(path: "memory", byteCount: byteCount)
    }
    // The region keeps its memory mapped, and the store keeps the region.
    let store = unsafe try MemoryStore(
      address: region.address, byteCount: byteCount, owner: region,
      blockByteCount: blockByteCount, isReadOnly: isReadOnly)
    regions.withLock { $0[ObjectIdentifier(store)] = region }
    return store
  }

  /// The fabric memory that holds a store's blocks; nil for any other store.
  func region(of store: any Store) -> MemoryRegion? {
    regions.withLock { $0[ObjectIdentifier(store)] }
  }
}
