import CFabricLinux
import FabricBounded
import FabricCompletion
import FabricHostDriver
import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

/// One of a device's sockets to the kernel's NBD client. (HD-71, HD-72)
///
/// Each slot has a piece of registered memory. What is written lands there and is sent to the unit from
/// there; what was read is put there by the unit and answered from there, with the reply's header in front.
/// While all slots are taken, the unit's queue takes no more or the kernel does not take its replies,
/// nothing is read from the socket.
///
/// Threads: confined to the thread that runs the queue's service. Nothing is allocated per request.
@safe
final class NBDQueue: KernelQueue, ProgressSource {
  /// The most bytes that the kernel reads or writes in one request.
  static let transferByteCount = 1 << 20
  /// Before the data of each slot, which begins a page, there is room for the header of its reply.
  static let headRoom = 4096
  static let elementByteCount = headRoom + transferByteCount
  /// So many requests come with one call. Of what is written as many bytes may come with its request and
  /// are copied to where the rest lands.
  static let inputByteCount = 16 * NBD.requestByteCount
  /// So many replies go with one call.
  static let sendLimit = 16
  /// What one round takes, so that completions come in between.
  private static let batchLimit = 32
  /// While nothing came, how many rounds look at the socket once: a look is a system call.
  private static let roundsForLook = 8

  let socket: StreamSocket
  private let handle: StreamSocket.Handle
  private let rules: NBDRules
  private let cookies: FixedTable<UInt64>
  private let freeSlots: IndexPool
  private let tell: (HostVolumeEvent) -> Void

  // What came and is no request yet
  private let input = FixedTable<UInt8>(repeating: 0, count: NBDQueue.inputByteCount)
  private var inputStart = 0
  private var inputEnd = 0
  /// Where the rest of a write's data is to land, and whose it is.
  private var landing = 0..<0
  private var landingSlot = -1
  private var landingRequest: NBDRequest?
  /// Bytes of a refused write's data that are still to come.
  private var skippedByteCount = 0

  // What is to be answered
  /// Slots that have a reply, in order.
  private let replies: IndexQueue
  /// Bytes of each slot's reply.
  private let replyByteCounts: FixedTable<Int>
  /// Slots whose replies go next.
  private let sending = FixedTable<Int>(repeating: 0, count: NBDQueue.sendLimit)
  private var sendingCount = 0
  /// Bytes of the first of them that the socket has taken.
  private var sentByteCount = 0
  private var isBlocked = false

  /// Watches the socket while there is something to wait for there.
  private let poller: Poller
  private enum Watch { case nothing, input, output }
  private var watch = Watch.nothing
  private var mustLook = true
  private var roundCount = 0
  /// Nothing comes and goes any more.
  private(set) var hasEnded = false

  /// - Parameters:
  ///   - socket: the other end is the kernel's.
  ///   - number: of the device's sockets, for the tags of requests.
  ///   - tell: told when the kernel ends the device, and of requests that failed.
  init(
    _ queue: RemoteVolumeQueue, info: RemoteVolumeInfo, socket: StreamSocket, number: Int,
    depth: Int, isReadOnly: Bool, tell: @escaping (HostVolumeEvent) -> Void
  ) throws(HostDeviceError) {
    self.socket = socket
    self.tell = tell
    handle = socket.handle
    rules = NBDRules(
      byteCount: info.byteCount, blockMask: UInt64(info.blockByteCount) - 1,
      isReadOnly: isReadOnly)
    cookies = FixedTable(repeating: 0, count: depth)
    freeSlots = IndexPool(capacity: depth)
    replies = IndexQueue(capacity: depth)
    replyByteCounts = FixedTable(repeating: 0, count: depth)
    poller = try HostDeviceError.doing("expected a descriptor to wait on") { () throws(Errno) in
      try Poller()
    }
    super.init(
      try DeviceRequests(
        queue, info: info, depth: depth, byteCount: depth * Self.elementByteCount, number: number,
        tell: tell))
  }

  // MARK: Rounds

  func progress() -> Int {
    roundCount &+= 1
    guard mustLook || roundCount & (Self.roundsForLook - 1) == 0, !hasEnded else { return 0 }
    var count = 0
    if isBlocked { sendReplies() }
    while true {
      count &+= takeRequests()
      guard count < Self.batchLimit, canReceive, receive() else { break }
      count &+= 1
    }
    mustLook = count > 0
    if count > 0 {
      // Of what was refused.
      sendReplies()
      requests.queue.flushSubmissions()
    }
    return count
  }

  var descriptor: CInt? { poller.descriptor.rawValue }

  /// What cannot be taken must not wake anybody.
  func arm() {
    mustLook = true
    let wanted: Watch = hasEnded ? .nothing : isBlocked ? .output : canReceive ? .input : .nothing
    guard wanted != watch else { return }
    if watch != .nothing { poller.remove(socket.number) }
    watch = .nothing
    let isWatched =
      switch wanted {
      case .nothing: false
      case .input: (try? poller.add(socket.number, tag: 0)) != nil
      case .output: (try? poller.addOutput(socket.number, tag: 0)) != nil
      }
    if isWatched { watch = wanted }
  }

  func disarm() { mustLook = true }
  var nextDeadline: MonotonicTime? { nil }

  // MARK: Input

  /// Whether a request that came now would find memory and its turn.
  private var canTake: Bool { !isBlocked && !requests.areWaiting && freeSlots.count > 0 }

  /// Whether there is a place for what comes now.
  private var canReceive: Bool { !hasEnded && (!landing.isEmpty || canTake) }

  /// Receives once. False when nothing has come.
  private func receive() -> Bool {
    if inputStart > 0 {
      unsafe input.address.update(
        from: input.address + inputStart, count: inputEnd &- inputStart)
      inputEnd &-= inputStart
      inputStart = 0
    }
    let result = unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: 2) { pieces in
      unsafe pieces[0] = iovec(
        iov_base: requests.region.bytes.baseAddress! + landing.lowerBound, iov_len: landing.count)
      let room = unsafe iovec(
        iov_base: input.address + inputEnd, iov_len: Self.inputByteCount &- inputEnd)
      if landing.isEmpty {
        unsafe pieces[0] = room
        return unsafe handle.receive(pieces.baseAddress!, count: 1)
      }
      unsafe pieces[1] = room
      return unsafe handle.receive(pieces.baseAddress!, count: 2)
    }
    switch result {
    case .wouldBlock: return false
    case .end: end("the kernel has closed the socket")
    case .failed(let error): end("the socket to the kernel has failed: \(error)")
    case .bytes(let count):
      let landed = min(count, landing.count)
      inputEnd &+= count &- landed
      if landed > 0 { land(landed) }
      return true
    }
    return false
  }

  /// So many bytes of a write's data have come to their place.
  private func land(_ byteCount: Int) {
    landing = landing.lowerBound &+ byteCount..<landing.upperBound
    guard landing.isEmpty, let request = landingRequest else { return }
    landingRequest = nil
    begin(landingSlot, .write, request)
  }

  /// Takes as many requests as are there whole, and returns how many.
  @discardableResult
  private func takeRequests() -> Int {
    var count = 0
    while !hasEnded, landing.isEmpty {
      let left = inputEnd &- inputStart
      if skippedByteCount > 0 {
        let part = min(skippedByteCount, left)
        skippedByteCount &-= part
        inputStart &+= part
        if skippedByteCount > 0 { break }
        continue
      }
      guard left >= NBD.requestByteCount, canTake else { break }
      let view = unsafe WireView(input.address + inputStart, byteCount: NBD.requestByteCount)
      guard let request = NBDRequest(view) else {
        end("expected a request of the kernel's, got another magic number")
        break
      }
      inputStart &+= NBD.requestByteCount
      take(request)
      count &+= 1
    }
    return count
  }

  private func take(_ request: NBDRequest) {
    if request.command == .disconnect { return end("the kernel has ended the device") }
    guard let slot = freeSlots.take() else { return }
    cookies[slot] = request.cookie
    if let code = refusal(of: request) {
      skippedByteCount = request.payloadByteCount
      requests.noteRefusal()
      return reply(slot, code, byteCount: 0)
    }
    switch request.command {
    case .read: begin(slot, .read, request)
    case .write: beginWrite(slot, request)
    case .flush: begin(slot, .flush, request)
    // What was discarded reads as zeroes, as with the loop end. (HD-15)
    case .trim, .writeZeroes: begin(slot, .writeZeroes, request)
    // Advice, and what the rules refuse.
    case .cache, .blockStatus, .disconnect, nil: reply(slot, nil, byteCount: 0)
    }
  }

  /// Why a request is not carried out: also one that is longer than a slot's memory.
  private func refusal(of request: NBDRequest) -> NBD.ErrorCode? {
    if let code = request.refusal(under: rules) { return code }
    let movesData = request.command == .read || request.command == .write
    return movesData && Int(request.length) > Self.transferByteCount ? .invalid : nil
  }

  func dataOffset(of slot: Int) -> Int { slot &* Self.elementByteCount &+ Self.headRoom }

  private func beginWrite(_ slot: Int, _ request: NBDRequest) {
    let offset = dataOffset(of: slot)
    let here = min(inputEnd &- inputStart, request.payloadByteCount)
    unsafe (requests.region.bytes.baseAddress! + offset).copyMemory(
      from: input.address + inputStart, byteCount: here)
    inputStart &+= here
    landing = offset &+ here..<offset &+ request.payloadByteCount
    landingSlot = slot
    landingRequest = request
    if landing.isEmpty { land(0) }
  }

  // MARK: Requests

  private func begin(_ slot: Int, _ operation: BlockOperation, _ request: NBDRequest) {
    let isForced = operation.isModifying && request.flags.contains(.forceUnitAccess)
    let size = requests.blockByteCount
    let isDone = requests.begin(
      slot, operation, block: request.offset / size, blockCount: UInt64(request.length) / size,
      dataOffset: dataOffset(of: slot), flags: isForced ? .forceUnitAccess : [])
    if isDone { end(slot) }
  }

  override func end(_ slot: Int) {
    let (operation, status, byteCount) = requests.end(slot)
    reply(
      slot, NBD.ErrorCode(status),
      byteCount: operation == .read && status == .success ? byteCount : 0)
  }

  override func finishBatch() {
    super.finishBatch()
    sendReplies()
    // There may be room for what came before.
    takeRequests()
    sendReplies()
    mustLook = true
  }

  // MARK: Replies

  /// Puts a slot's reply behind the others.
  ///
  /// - Parameters:
  ///   - code: nil: the request succeeded.
  ///   - byteCount: of the data that the reply has.
  private func reply(_ slot: Int, _ code: NBD.ErrorCode?, byteCount: Int) {
    let head = unsafe WireBuffer(
      replyStart(of: slot), byteCount: NBD.simpleReplyByteCount)
    NBDReply.simple(cookie: cookies[slot], error: code?.rawValue ?? 0, into: head)
    replyByteCounts[slot] = NBD.simpleReplyByteCount &+ byteCount
    replies.push(slot)
  }

  /// Header and data lie together.
  @unsafe
  private func replyStart(of slot: Int) -> UnsafeMutableRawPointer {
    unsafe requests.region.bytes.baseAddress! + dataOffset(of: slot) - NBD.simpleReplyByteCount
  }

  /// Sends what there is, as far as there is room.
  private func sendReplies() {
    while !hasEnded {
      while sendingCount < Self.sendLimit, let slot = replies.pop() {
        sending[sendingCount] = slot
        sendingCount &+= 1
      }
      isBlocked = false
      guard sendingCount > 0 else { return }
      switch send() {
      case .bytes(let count): sent(count)
      case .wouldBlock:
        isBlocked = true
        return
      case .end: end("the kernel has closed the socket")
      case .failed(let error): end("the socket to the kernel has failed: \(error)")
      }
    }
  }

  private func send() -> StreamSocket.Transfer {
    unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.sendLimit) { pieces in
      for index in 0..<sendingCount {
        let slot = sending[index]
        let start = index == 0 ? sentByteCount : 0
        unsafe pieces[index] = iovec(
          iov_base: replyStart(of: slot) + start, iov_len: replyByteCounts[slot] &- start)
      }
      return unsafe handle.send(pieces.baseAddress!, count: sendingCount)
    }
  }

  /// The socket has taken so many bytes: slots whose reply is out are free.
  private func sent(_ byteCount: Int) {
    sentByteCount &+= byteCount
    var count = 0
    while count < sendingCount, sentByteCount >= replyByteCounts[sending[count]] {
      sentByteCount &-= replyByteCounts[sending[count]]
      freeSlots.give(sending[count])
      count &+= 1
    }
    for index in count..<sendingCount { sending[index &- count] = sending[index] }
    sendingCount &-= count
  }

  // MARK: The end

  /// Nothing comes and goes any more, which is told once.
  private func end(_ words: String) {
    guard !hasEnded else { return }
    hasEnded = true
    socket.hangUp()
    tell(.ended(words))
  }

  override func close() {
    hasEnded = true
    socket.hangUp()
  }
}
