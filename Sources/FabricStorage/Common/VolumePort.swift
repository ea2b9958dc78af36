import FabricBounded
import CFabricLinux
import FabricPlatform
import Synchronization

/// One thread's way to a volume: validates requests, hands them to the store, reports their ends.
///
/// Thread rule: `submit`, `flushSubmissions`, `poll`, `arm`, `attach`, `detach`, `quiesce` and
/// `resume` belong to the thread that uses the port first. `close` may be called on any thread.
public final class VolumePort: @unchecked Sendable {
  public let volume: Volume
  let store: any Store
  public let access: VolumeAccess
  /// The most requests in flight.
  public let depth: Int

  /// A request between its acceptance and its report.
  struct Slot: BitwiseCopyable {
    var tag: UInt64 = 0
    /// What a flush covers.
    var covered: UInt64 = 0
    var client: UInt32 = 0
    var operation = BlockOperation.read
    var isForced = false
    /// Whether the store was given it.
    var isHandedOn = false
  }

  /// Somebody on whose behalf requests come.
  struct Client: BitwiseCopyable {
    /// Kept alive by `accounts`; without reference counting for each request.
    var account: AccountReference
    var inFlightCount: UInt32 = 0
    var isAttached = true
    var isQuiesced = false
    var isAnnounced = false
  }

  /// Where the port is in its life. Only its own thread, or who closes it before any thread has
  /// used it, goes on to `closed`.
  enum Stage {
    static let open: UInt32 = 0
    static let closing: UInt32 = 1
    static let closed: UInt32 = 2
  }

  let queue: any StoreQueue
  unowned let handler: any VolumePortHandler
  let registration: Registration
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  let staged: FixedTable<BlockRequest>
  var stagedCount = 0
  /// Requests refused here, whose slots are still taken.
  var refused: CompletionRing
  let batch: CompletionBatch
  var clients: FixedTable<Client>
  private var accounts: [VolumeClient]
  var quiescingCount = 0
  var isReporting = false
  let blockByteCount: UInt64
  /// As far as this port knows: the store may have grown.
  var blockCount: UInt64
  let mayWrite: Bool
  private let directBase: UInt64?
  /// A `Stage`; also what `close` sleeps on.
  let stage = Atomic<UInt32>(Stage.open)
  /// The thread of the first use; 0 before it.
  let ownerThread = Atomic<Int32>(0)

  init(
    volume: Volume, access: VolumeAccess, queue: any StoreQueue,
    handler: any VolumePortHandler, registration: Registration
  ) {
    self.volume = volume
    self.access = access
    self.queue = queue
    self.handler = handler
    self.registration = registration
    depth = queue.depth
    slots = FixedTable(repeating: Slot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    staged = FixedTable(repeating: BlockRequest(.flush), count: depth)
    refused = CompletionRing(capacity: depth)
    batch = CompletionBatch(capacity: min(depth, 256))
    let own = VolumeClient(of: volume)
    accounts = [own]
    clients = FixedTable(repeating: Client(account: AccountReference(own)), count: 1)
    blockByteCount = UInt64(volume.blockByteCount)
    blockCount = volume.blockCount
    mayWrite = access == .readWrite
    store = volume.store
    directBase = volume.store.directMemory?.address
  }

  /// Requests accepted and not yet reported.
  public var inFlightCount: Int { depth &- freeSlots.count }

  /// False once the port is closing or closed.
  public var isOpen: Bool { stage.load(ordering: .relaxed) == Stage.open }

  /// Where the blocks lie in memory, for a fabric that reads them there itself; nil when the store
  /// has none, a block of the volume is unreadable, or the blocks are not all in the volume.
  public func directAddress(block: UInt64, blockCount count: UInt32) -> UInt64? {
    guard let directBase, count > 0, block < blockCount, UInt64(count) <= blockCount &- block,
      isOpen, !store.hasUncorrectableBlocks
    else { return nil }
    return directBase &+ block &* blockByteCount
  }

  // MARK: Clients

  /// Accounts for a client's requests on this port; its requests carry the returned number.
  /// Client 0, the port's own, is always there.
  public func attach(_ client: VolumeClient) -> UInt32 {
    precondition(client.volume === volume, "a client of another volume")
    let entry = Client(account: AccountReference(client))
    for index in 1..<max(1, clients.count) where !clients[index].isAttached {
      accounts[index] = client
      clients[index] = entry
      return UInt32(index)
    }
    let longer = FixedTable(repeating: entry, count: clients.count + 1)
    for index in 0..<clients.count { longer[index] = clients[index] }
    accounts.append(client)
    clients = longer
    return UInt32(clients.count - 1)
  }

  /// Forgets a client that has nothing in flight; its number may be given again.
  public func detach(_ client: UInt32) {
    precondition(client != 0, "client 0 is the port itself")
    let entry = attached(client)
    precondition(entry.inFlightCount == 0, "quiesce the client first")
    resume(client)
    clients[Int(client)].isAttached = false
    clients[Int(client)].account = clients[0].account
    accounts[Int(client)] = accounts[0]
  }

  /// Accepts nothing more from a client: its further requests end with `aborted`. When all that
  /// was accepted from it has ended and been reported, a poll tells the handler, once. (ST-35)
  public func quiesce(_ client: UInt32) {
    if attached(client).isQuiesced { return }
    clients[Int(client)].isQuiesced = true
    clients[Int(client)].isAnnounced = false
    quiescingCount += 1
  }

  /// Accepts requests from a quiesced client again.
  public func resume(_ client: UInt32) {
    let entry = attached(client)
    guard entry.isQuiesced else { return }
    if !entry.isAnnounced { quiescingCount -= 1 }
    clients[Int(client)].isQuiesced = false
  }

  /// Requests of a client accepted and not yet reported.
  public func inFlightCount(of client: UInt32) -> Int {
    Int(attached(client).inFlightCount)
  }

  private func attached(_ client: UInt32) -> Client {
    let entry = clients[Int(client)]
    precondition(entry.isAttached, "no such client")
    return entry
  }
}

/// A client's account, used without counting references: the port's `accounts` keep it alive.
@safe
struct AccountReference: BitwiseCopyable {
  private let account: Unmanaged<VolumeClient>

  init(_ account: VolumeClient) { unsafe self.account = .passUnretained(account) }

  func willWrite() { unsafe account._withUnsafeGuaranteedRef { $0.willWrite() } }
  func didWrite() { unsafe account._withUnsafeGuaranteedRef { $0.didWrite() } }
  func willFlush() -> UInt64 { unsafe account._withUnsafeGuaranteedRef { $0.willFlush() } }
  func didFlush(covered: UInt64) -> Bool {
    unsafe account._withUnsafeGuaranteedRef { $0.didFlush(covered: covered) }
  }
}
