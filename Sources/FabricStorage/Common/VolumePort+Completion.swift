import FabricBounded
import CFabricLinux
import FabricPlatform
import Synchronization

extension VolumePort {
  /// Reports what has ended to the handler: one call for each batch.
  ///
  /// - Returns: how many requests were reported.
  @discardableResult
  public func poll() -> Int {
    guard claim() else { return 0 }
    let current = stage.load(ordering: .acquiring)
    if current == Stage.closed { return 0 }
    let count = pollOnce()
    if current == Stage.closing, inFlightCount == 0 { finishClosing() }
    return count
  }

  /// Becomes readable when a poll would find something, once `arm` has answered true; nil when
  /// completions never come from elsewhere.
  public var descriptor: CInt? { queue.descriptor }

  /// Prepares for sleep on `descriptor`. False when the port should be polled now.
  public func arm() -> Bool {
    guard claim() else { return true }
    flushSubmissions()
    let needsPoll = stage.load(ordering: .acquiring) == Stage.closing || refused.count > 0
    return !needsPoll && !hasSettledQuiesce && queue.arm()
  }

  /// Blocks until a poll would report something; returns at once when nothing is in flight.
  public func waitForCompletion() {
    guard claim() else { return }
    flushSubmissions()
    if refused.count == 0, !hasSettledQuiesce { queue.waitForCompletion() }
  }

  private var hasSettledQuiesce: Bool {
    quiescingCount > 0
      && (0..<clients.count).contains { isSettled(clients[$0]) }
  }

  private func isSettled(_ client: Client) -> Bool {
    client.isQuiesced && !client.isAnnounced && client.inFlightCount == 0
  }

  private func pollOnce() -> Int {
    precondition(!isReporting, "a port was polled from inside its completion handler")
    if stagedCount > 0 { flushSubmissions() }
    batch.removeAll()
    _ = refused.move(into: batch)
    _ = queue.poll(into: batch)
    let count = batch.count
    if count > 0 {
      for index in 0..<count { batch[index] = settle(batch[index]) }
      isReporting = true
      batch.withCompletions { handler.volumePort(self, completed: $0) }
      isReporting = false
    }
    if quiescingCount > 0 { announceQuiesced() }
    return count
  }

  /// Frees the slot and puts the caller's tag back; a flush is told what it must be told.
  /// (ST-33, ST-34)
  private func settle(_ completion: BlockCompletion) -> BlockCompletion {
    let number = Int(truncatingIfNeeded: completion.tag)
    let slot = slots[number]
    var completion = completion
    completion.tag = slot.tag
    freeSlots.give(number)
    clients[Int(slot.client)].inFlightCount -= 1
    if slot.isHandedOn, slot.operation.isModifying || slot.operation == .flush {
      settleDurability(slot, &completion)
    }
    return completion
  }

  private func settleDurability(_ slot: Slot, _ completion: inout BlockCompletion) {
    let account = clients[Int(slot.client)].account
    var isFailure = false
    switch completion.status {
    case .mediaWriteError, .flushFailed, .internalError: isFailure = true
    default: break
    }
    if slot.operation.isModifying {
      account.didWrite()
      if isFailure, slot.isForced { countDurabilityFailure() }
      return
    }
    if isFailure { countDurabilityFailure() }
    if completion.status == .aborted { return }
    if !account.didFlush(covered: slot.covered) { completion.status = .flushFailed }
  }

  private func countDurabilityFailure() {
    volume.durabilityFailureCount.wrappingAdd(1, ordering: .releasing)
  }

  private func announceQuiesced() {
    for index in 0..<clients.count where isSettled(clients[index]) {
      clients[index].isAnnounced = true
      quiescingCount -= 1
      isReporting = true
      handler.volumePort(self, quiesced: UInt32(index))
      isReporting = false
    }
  }

  // MARK: Closing

  /// Accepts nothing more, lets what was accepted end and be reported, and returns when nothing is
  /// called any more. On another thread than the port's it waits for that one to poll. Must not be
  /// called from inside a completion handler. (ST-41)
  public func close() {
    beginClosing()
    let thread = fabric_gettid()
    let owner = ownerThread.compareExchange(
      expected: 0, desired: -1, ordering: .acquiringAndReleasing
    ).original
    if owner == 0 { return finishClosing() }
    guard owner == thread else { return waitUntilClosed() }
    precondition(!isReporting, "a port was closed from inside its completion handler")
    while stage.load(ordering: .relaxed) != Stage.closed {
      waitForCompletion()
      poll()
    }
  }

  func beginClosing() {
    let result = stage.compareExchange(
      expected: Stage.open, desired: Stage.closing, ordering: .acquiringAndReleasing)
    if result.exchanged, ownerThread.load(ordering: .relaxed) > 0 {
      registration.subsystem.portNeedsPoll(self)
    }
  }

  private func waitUntilClosed() {
    while true {
      let current = stage.load(ordering: .acquiring)
      if current == Stage.closed { return }
      Futex.wait(stage, while: current)
    }
  }

  /// The release pairs with `waitUntilClosed`: whoever sees it sees all calls to the handler done.
  private func finishClosing() {
    registration.portDidClose(self)
    stage.store(Stage.closed, ordering: .releasing)
    Futex.wake(stage)
  }
}
