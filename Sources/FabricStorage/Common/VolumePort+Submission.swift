import FabricBounded
import CFabricLinux
import Synchronization

extension VolumePort {
  /// Accepts requests from the front until `depth` are in flight. Each accepted request is reported
  /// exactly once, by a later poll; one that fails validation, with the status that says why.
  ///
  /// - Returns: how many were accepted; 0 once the port is closing.
  public func submit(_ requests: Span<BlockRequest>) -> Int {
    guard claim(), isOpen else { return 0 }
    let count = min(requests.count, freeSlots.count)
    for index in 0..<count { accept(requests[index]) }
    return count
  }

  /// Accepts one request, as above. False when `depth` are in flight or the port is closing.
  public func submit(_ request: BlockRequest) -> Bool {
    guard claim(), isOpen, freeSlots.count > 0 else { return false }
    accept(request)
    return true
  }

  /// Hands what was accepted to the store: one system call for every four requests at most.
  public func flushSubmissions() {
    if stagedCount > 0 {
      let taken = staged.withSpan(prefix: stagedCount) { queue.submit($0) }
      precondition(taken == stagedCount, "the store's queue is as deep as the port")
      stagedCount = 0
    }
    queue.flushSubmissions()
  }

  private func accept(_ request: BlockRequest) {
    guard let number = freeSlots.take() else { preconditionFailure("no slot") }
    let isKnown = Int(request.client) < clients.count && clients[Int(request.client)].isAttached
    let client = isKnown ? Int(request.client) : 0
    clients[client].inFlightCount += 1
    var status = isKnown ? validate(request) : .invalidField
    if status == .success, clients[client].isQuiesced { status = .aborted }
    var slot = Slot(
      tag: request.tag, client: UInt32(client), operation: request.operation,
      isForced: request.flags.contains(.forceUnitAccess), isHandedOn: status == .success)
    guard slot.isHandedOn else {
      slots[number] = slot
      refused.push(BlockCompletion(tag: UInt64(number), status: status))
      return
    }
    if request.operation.isModifying {
      clients[client].account.willWrite()
    } else if request.operation == .flush {
      slot.covered = clients[client].account.willFlush()
    }
    slots[number] = slot
    var handed = request
    handed.tag = UInt64(number)
    staged[stagedCount] = handed
    stagedCount &+= 1
  }

  /// The one place where requests are checked; stores trust what comes from here. (ST-30, ST-31)
  private func validate(_ request: BlockRequest) -> BlockStatus {
    let isFlush = request.operation == .flush
    let isZeroing = request.operation == .writeZeroes
    let allowed: BlockFlags = isZeroing ? .ofZeroes : .forceUnitAccess
    guard request.flags.subtracting(allowed).isEmpty else { return .invalidField }
    if request.flags.contains(.forceUnitAccess) {
      switch request.operation {
      case .read, .write, .writeZeroes: break
      default: return .invalidField
      }
    }
    if request.operation.isModifying, !mayWrite { return .readOnly }
    if isFlush {
      return request.blockCount == 0 && request.byteCount == 0 ? .success : .invalidField
    }
    let blocks = UInt64(request.blockCount)
    let bytes = UInt64(request.byteCount)
    guard blocks > 0 else { return .invalidField }
    if request.operation.movesData {
      guard bytes == blocks &* blockByteCount, request.address != 0,
        request.address <= UInt64(Int64.max) &- bytes
      else { return .invalidField }
    } else if bytes != 0 {
      return .invalidField
    }
    guard request.block < blockCount, blocks <= blockCount &- request.block else {
      return isInGrownStore(request) ? .success : .lbaOutOfRange
    }
    return .success
  }

  /// Looks again at how many blocks there are. (ST-86)
  private func isInGrownStore(_ request: BlockRequest) -> Bool {
    blockCount = store.blockCount
    return request.block < blockCount
      && UInt64(request.blockCount) <= blockCount &- request.block
  }

  /// Makes the calling thread the owner when there is none. False when the port was closed first.
  func claim() -> Bool {
    if ownerThread.load(ordering: .relaxed) > 0 { return true }
    let thread = fabric_gettid()
    return ownerThread.compareExchange(
      expected: 0, desired: thread, ordering: .acquiringAndReleasing
    ).exchanged
  }
}
