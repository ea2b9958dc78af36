import FabricPlatform

/// A queue as the front end sets it up.
final class DeviceQueue {
  let number: Int
  var size = 0
  var addresses: QueueAddresses?
  var base: UInt16 = 0
  var kick: PassedDescriptor?
  var call: PassedDescriptor?
  var error: PassedDescriptor?
  var isEnabled = false
  /// The front end has said how kicks come, if at all: the queue is to run.
  var isStarted = false
  /// Of a queue that runs.
  var ring: SplitQueue? {
    didSet { ringReference = ring.map { UncountedReference($0) } }
  }
  /// The same, for each look.
  private(set) var ringReference: UncountedReference<SplitQueue>?
  var isBroken = false
  /// Requests taken from it that have not ended.
  var requestCount = 0

  init(_ number: Int) { self.number = number }

  func stop() {
    ring = nil
    isStarted = false
    isBroken = false
    kick = nil
  }
}

/// One front end: what it has set up. (VU-1)
final class GuestSession {
  let socket: FrontEndSocket
  let processID: Int32
  var agreement: Agreement
  let queues: [DeviceQueue]
  /// The same, for each look.
  let queueReferences: [UncountedReference<DeviceQueue>]
  var regions: [GuestRegion] = []
  var memory: GuestMemory?
  var inflight: InflightMemory?
  var backEndSocket: StreamSocket?
  var hasInput = true
  /// The front end has hung up: nothing of its memory's rings is touched any more.
  var isGone = false
  /// What waits until requests have ended, and its answer.
  var pending: Pending?

  struct Pending {
    let request: FrontEndRequest
    let header: MessageHeader
    let descriptors: [PassedDescriptor]
  }

  init(_ socket: StreamSocket, processID: Int32, device: BlockDevice) {
    self.socket = FrontEndSocket(socket)
    self.processID = processID
    agreement = Agreement(offered: device.features, queueCount: device.queueCount)
    queues = (0..<device.queueCount).map { DeviceQueue($0) }
    queueReferences = queues.map { UncountedReference($0) }
  }

  var requestCount: Int { queues.reduce(0) { $0 + $1.requestCount } }

  /// Whether what `request` changes is still used by requests. (VU-15)
  func mustWait(_ request: FrontEndRequest) -> Bool {
    switch request {
    case .getQueueBase(let queue): queues[queue].requestCount > 0
    case .setMemoryTable, .addMemoryRegion, .removeMemoryRegion, .resetDevice: requestCount > 0
    default: false
    }
  }

  /// A queue is enabled from the start where the front end cannot enable it. (VU-16)
  func isRunning(_ queue: DeviceQueue) -> Bool {
    queue.ringReference != nil && !queue.isBroken
      && (queue.isEnabled || !agreement.features.contains(.protocolFeatures))
  }

  /// Makes the ring of a queue that has everything it needs.
  func start(_ queue: DeviceQueue) throws(VhostUserFault) {
    guard queue.ring == nil, let memory,
      let ring = try makeRing(of: queue, base: queue.base, in: memory)
    else { return }
    begin(ring, of: queue)
  }

  private func begin(_ ring: SplitQueue, of queue: DeviceQueue) {
    queue.ring = ring
    // The one before may have died without calling.
    queue.call?.signal()
  }

  /// The ring of a queue; nil while something is missing that it needs.
  private func makeRing(
    of queue: DeviceQueue, base: UInt16, in memory: GuestMemory
  ) throws(VhostUserFault) -> SplitQueue? {
    guard queue.isStarted, queue.size > 0, let addresses = queue.addresses else { return nil }
    let noted = inflight?.queue(queue.number, size: queue.size)
    if inflight != nil, noted == nil {
      throw .memory("expected inflight memory for queue \(queue.number), got less")
    }
    return try SplitQueue(
      size: queue.size, addresses: addresses, base: base, features: agreement.features,
      memory: memory, inflight: noted)
  }

  /// Has the rings find their places in other memory; nothing is under way. Where one does not, all stays as it
  /// was. (VU-11)
  func replaceMemory(_ regions: [GuestRegion]) throws(VhostUserFault) {
    let memory = try GuestMemory(regions)
    var rings: [SplitQueue?] = []
    for queue in queues {
      rings.append(
        try makeRing(of: queue, base: queue.ring?.availableIndex ?? queue.base, in: memory))
    }
    self.memory = memory
    self.regions = regions
    for (queue, ring) in zip(queues, rings) {
      if let old = queue.ring { queue.base = old.availableIndex }
      queue.ring = nil
      if let ring { begin(ring, of: queue) }
    }
  }

  func stopAll() {
    for queue in queues { queue.stop() }
  }
}
