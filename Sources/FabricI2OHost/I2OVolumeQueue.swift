import FabricBounded
public import FabricCompletion
public import FabricHostDriver
import FabricI2O
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs

/// Told of what happens on a queue, on the thread of its completion service.
public protocol I2OVolumeHandler: AnyObject {
  /// Requests ended; once for each batch. May submit further ones.
  func i2oVolume(_ queue: I2OVolumeQueue, completed completions: Span<BlockCompletion>)
  /// The connection came, or is given up.
  func i2oVolume(_ queue: I2OVolumeQueue, changed state: RemoteVolumeQueue.State)
}

/// A queue of requests to a volume that a unit shows as an I2O device: block reads, block writes and
/// cache flushes; other requests end with `unsupported`.
///
/// The protocol has no sessions: a connection that is lost is not made again, because what the unit
/// still has of it might come behind what was sent anew. A request without an answer for
/// `Options.timeout` is aborted.
///
/// Threads: confined to the thread that runs `service`. Nothing is allocated per request.
public final class I2OVolumeQueue: VolumeRequestQueue {
  public typealias Options = RemoteVolumeQueue.Options
  public typealias State = RemoteVolumeQueue.State

  /// A request's place in the table.
  struct Slot: BitwiseCopyable {
    var request = RemoteRequest(.flush)
    /// Lent to the unit for this request's data; 0: none.
    var loan = RemoteKey(rawValue: 0)
    /// Nanoseconds on the monotonic clock, coarse.
    var submitted: UInt64 = 0
    var generation: UInt16 = 0
    var isTaken = false
    /// Handed to the channel, the end not seen.
    var isSent = false
    /// An abort has been sent for it.
    var isAborted = false
  }

  public let address: VolumeAddress
  public let options: Options
  public internal(set) var state = State.connecting
  public private(set) var info: RemoteVolumeInfo?
  /// Aborts that were sent. (IT-60)
  public internal(set) var abortCount = 0
  /// Why requests end with `aborted` on a queue that is of use: they had no answer in time.
  public internal(set) var abortReason: RemoteVolumeError?
  let service: CompletionService
  let endpoint: ChannelEndpoint
  unowned let handler: any I2OVolumeHandler
  let lendsKeys: Bool
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Slots to be handed to the channel, in order of submission.
  let unsent: IndexQueue
  /// Slots of requests that this protocol has no message for, still to be ended.
  let doomed: IndexQueue
  let batch: FixedTable<BlockCompletion>
  /// What the handler is being told, while `batch` fills again.
  let reported: FixedTable<BlockCompletion>
  var batchCount = 0
  var sentCount = 0
  /// The most that are sent at once: one message is kept for an abort.
  private(set) var sentLimit = 0
  var isReporting = false
  var coarseNow = MonotonicTime.now.nanoseconds
  /// The device's number.
  private(set) var device: UInt16 = 0
  var channel: Channel?
  /// The slot that the abort under way is for.
  var abortedSlot: Int?
  /// A handler that nobody else keeps alive.
  var keptHandler: (any I2OVolumeHandler)?
  private var session: I2OSession?
  var timer: I2OVolumeTimer?
  private var backoff: Backoff

  /// Connects once `attach` is called.
  ///
  /// - Parameters:
  ///   - service: carries the queue on; run by the caller or by its own thread.
  ///   - handler: not kept alive; must outlive `close`.
  /// - Throws: `.resources`.
  public init(
    _ address: VolumeAddress, adapter: any Adapter, service: CompletionService,
    options: Options = .init(), handler: any I2OVolumeHandler
  ) throws(ChannelOpenError) {
    precondition(options.depth > 0 && options.depth <= 0x8000, "1 to 32768 requests")
    self.address = address
    self.options = options
    self.service = service
    self.handler = handler
    endpoint = try ChannelEndpoint(adapter: adapter, service: service)
    lendsKeys = adapter.capabilities.peersAreStrangers
    slots = FixedTable(repeating: Slot(), count: options.depth)
    freeSlots = IndexPool(capacity: options.depth)
    unsent = IndexQueue(capacity: options.depth)
    doomed = IndexQueue(capacity: options.depth)
    let none = BlockCompletion(tag: 0, status: .success)
    batch = FixedTable(repeating: none, count: options.depth)
    reported = FixedTable(repeating: none, count: options.depth)
    backoff = options.backoff
  }

  public var memoryDomain: any ProtectionDomain { endpoint.protectionDomain }
  public var freeCount: Int { freeSlots.count }
  public var inFlightCount: Int { options.depth - freeSlots.count }

  public func allocate(byteCount: Int) throws(RegistrationError) -> MemoryRegion {
    let region = try endpoint.protectionDomain.allocate(
      byteCount: byteCount, access: [.localWrite, .remoteWrite])
    // Strangers get a key for each read, and nothing that outlives it.
    if lendsKeys, let key = region.remoteKey { endpoint.protectionDomain.revoke(key) }
    return region
  }

  public func attach() {
    let timer = I2OVolumeTimer(queue: self)
    self.timer = timer
    service.add(timer)
    connect()
  }

  func connect() {
    let session = I2OSession(address, endpoint: endpoint, wanted: address.volumeName) {
      [weak self] result in
      self?.opened(result)
    }
    self.session = session
    session.begin(
      hostName: options.hostName, key: options.key, depth: options.depth,
      timeout: options.attemptTimeout)
  }

  private func opened(_ result: Result<I2OSession.Findings, RemoteVolumeError>) {
    guard case .connecting = state else { return }
    switch result {
    case .failure(let error): attemptFailed(error)
    case .success(let findings):
      guard
        let (number, facts) = findings.devices.first(where: { $0.facts.name == address.volumeName })
      else {
        return fail(.refused(address: address, reason: absence(among: findings.devices)))
      }
      guard options.access == .readOnly || !facts.isReadOnly else {
        return fail(
          .refused(
            address: address,
            reason: "expected to write volume \"\(facts.name)\", it may only be read; attach it "
              + "read-only"))
      }
      attached(findings, number, facts)
    }
  }

  /// Why there is no such volume.
  private func absence(among devices: [(number: UInt16, facts: DeviceFacts)]) -> String {
    if devices.isEmpty {
      return "expected volume \"\(address.volumeName)\", but the unit has none for this host; have "
        + "the unit serve it, and to this host with --allow"
    }
    let names = devices.map { $0.facts.name }.joined(separator: ", ")
    return "expected one of the volumes \(names), got \"\(address.volumeName)\"; correct the name"
  }

  private func attached(
    _ findings: I2OSession.Findings, _ number: UInt16, _ facts: DeviceFacts
  ) {
    device = number
    channel = findings.channel
    session?.user = self
    sentLimit = findings.depth - 1
    let found = RemoteVolumeInfo(
      address: address, unitName: findings.unitName, identifier: facts.identifier,
      blockByteCount: facts.blockByteCount,
      blockCount: facts.byteCount / UInt64(facts.blockByteCount), access: options.access,
      maximumTransferByteCount: min(findings.maximumTransferByteCount, 8 << 20),
      depth: sentLimit)
    info = found
    state = .attached(found)
    for index in 0..<slots.count { slots[index].submitted = coarseNow }
    handler.i2oVolume(self, changed: state)
    postUnsent()
    flushSubmissions()
  }

  /// A first attempt has another behind it where the user is patient.
  private func attemptFailed(_ error: RemoteVolumeError) {
    dropSession()
    switch error {
    case .unreachable, .turnedAway:
      guard options.isPatientAtFirst, let timer else { return fail(error) }
      var generator = SystemRandomNumberGenerator()
      let wait = backoff.next(using: &generator)
      timer.lastReason = error.description
      options.log("attempt \(backoff.attemptCount) failed, because \(error)")
      timer.connectAt = .now + wait
    default: fail(error)
    }
  }

  /// Takes a request; it ends once, in a later call of the handler. Outside the handler's calls
  /// `flushSubmissions` must follow.
  @discardableResult
  public func submit(_ request: RemoteRequest) -> Bool {
    if case .closed = state { return false }
    guard let index = freeSlots.take() else { return false }
    slots[index].request = request
    slots[index].isTaken = true
    slots[index].isSent = false
    slots[index].isAborted = false
    slots[index].submitted = coarseNow
    slots[index].generation = (slots[index].generation &+ 1) & 0x7FFF
    if case .failed = state {
      timer?.hasEnds = true
    } else if !unsent.isEmpty || !post(index) {
      unsent.push(index)
    }
    return true
  }

  public func flushSubmissions() { channel?.flush() }

  public func close() {
    if case .closed = state { return }
    state = .closed
    dropSession()
    endAll()
    if let timer { service.remove(timer) }
    timer = nil
    endpoint.close()
  }

  // MARK: Loss

  /// The connection has gone, and with it the queue's use.
  func lost(because reason: String) {
    guard case .attached = state else { return }
    fail(
      .unreachable(
        address: address,
        reason: "\(address): the connection was lost, because \(reason); requests under way may or "
          + "may not have been carried out, and I2O has no way to go on: attach it again"))
  }

  /// Gives up: everything ends, now and later.
  func fail(_ error: RemoteVolumeError) {
    dropSession()
    timer?.connectAt = nil
    state = .failed(error)
    handler.i2oVolume(self, changed: state)
    if case .failed = state { endAll() }
  }

  private func dropSession() {
    // Those who are at work here do not count: nothing goes before they have returned.
    service.keepToRoundEnd(self)
    if let session { service.keepToRoundEnd(session) }
    session?.end()
    session = nil
    channel = nil
    abortedSlot = nil
  }
}
