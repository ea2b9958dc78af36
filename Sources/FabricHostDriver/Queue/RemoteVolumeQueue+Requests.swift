import FabricBounded
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire
import Synchronization

extension RemoteVolumeQueue {
  /// Hands a request to a path. False when it must wait.
  func post(_ index: Int) -> Bool {
    if isBarred { return false }
    if let onlyPath { return onlyPath.with { $0.canTake && post(index, by: $0) } }
    let byteCount = slots[index].request.data.byteCount
    guard let chosen = chooser.choose(paths, byteCount: byteCount, at: coarseNow) else {
      return false
    }
    return paths.with(chosen) { post(index, by: $0) } || postElsewhere(index, than: chosen)
  }

  /// The chosen path has no room for messages: another one, unless it is to be that one alone.
  private func postElsewhere(_ index: Int, than chosen: Int) -> Bool {
    if chooser.policy == .failover { return false }
    for other in 0..<paths.count where other != chosen {
      if paths.with(other, { $0.canTake && post(index, by: $0) }) { return true }
    }
    return false
  }

  private func post(_ index: Int, by path: VolumePath) -> Bool {
    path.channelReference?.with { post(index, by: path, over: $0) } ?? false
  }

  private func post(_ index: Int, by path: VolumePath, over channel: Channel) -> Bool {
    let request = slots[index].request
    let tag = RequestTag(index: UInt16(index), generation: slots[index].generation)
    var command = CommandCapsule(
      Opcode(request.operation), tag: tag, block: request.block, blockCount: request.blockCount,
      byteCount: request.data.byteCount, flags: request.flags)
    var data = request.data
    var remoteKey: RemoteKey? = request.remoteKey
    if path.endpointIndex != 0, request.operation.movesData {
      guard let keys = otherKeys(of: data.localKey, at: path.endpointIndex) else {
        return doom(index)
      }
      data.localKey = keys.local
      remoteKey = keys.remote
    }
    if request.operation == .read {
      command.remoteAddress = data.address
      if path.lendsKeys {
        guard let key = lend(data, for: index, by: path, over: channel) else { return false }
        remoteKey = key
      }
      guard let remoteKey else { return doom(index) }
      command.remoteKey = remoteKey
    }
    let refusal = unsafe withUnsafeTemporaryAllocation(
      byteCount: CommandCapsule.byteCount, alignment: 8
    ) { bytes -> SendRefusal? in
      let buffer = unsafe WireBuffer(bytes)
      command.encode(into: buffer)
      let kind = MessageKind.command.rawValue
      return command.opcode.carriesData
        ? channel.transfer(
          kind: kind, tag: tag.rawValue, payload: buffer.view, data: data)
        : channel.send(kind: kind, tag: tag.rawValue, payload: buffer.view)
    }
    guard let refusal else {
      slots[index].isSent = true
      slots[index].sent = coarseNow
      slots[index].path = UInt8(path.index)
      slots[index].connection = path.serial
      path.sentCount &+= 1
      path.counters.requestCount &+= 1
      return true
    }
    // Longer than the unit's buffers: what it would answer, too.
    return refusal == .tooLong && doom(index)
  }

  /// No unit would take it: it ends with `invalidField`.
  private func doom(_ index: Int) -> Bool {
    doomed.push(index)
    timer?.hasEnds = true
    return true
  }

  /// A key for the unit to write a read's data with; nil while all keys are in use.
  private func lend(
    _ data: ScatterGatherElement, for index: Int, by path: VolumePath, over channel: Channel
  ) -> RemoteKey? {
    takeBackLoan(index)
    guard let key = try? channel.lend(data) else { return nil }
    slots[index].loan = key
    slots[index].path = UInt8(path.index)
    return key
  }

  /// The unit may not write to a request's data any more.
  func takeBackLoan(_ index: Int) {
    let key = slots[index].loan
    guard key.rawValue != 0 else { return }
    slots[index].loan = RemoteKey(rawValue: 0)
    paths.with(Int(slots[index].path)) { $0.endpoint.protectionDomain.revoke(key) }
  }

  /// The keys at another fabric of the region that has a local key at the first one.
  private func otherKeys(of key: LocalKey, at endpoint: Int) -> PathMemory.Keys? {
    guard let pathMemory else { return nil }
    let count = pathMemory.changeCount.load(ordering: .acquiring)
    if count != keyChangeCount || otherKeys.isEmpty {
      keyChangeCount = count
      otherKeys = (1..<pathMemory.domains.count).map { pathMemory.keys(at: $0) }
    }
    return otherKeys[endpoint &- 1][key.rawValue]
  }

  /// Hands over what waits, until something is short again.
  func postUnsent() {
    while let index = unsent.first {
      guard post(index) else { return }
      _ = unsent.pop()
    }
  }

  // MARK: Ends

  /// A read's data is in place.
  func pushCompleted(tag: RequestTag, over connection: UInt32) -> Bool {
    guard tag.index < slots.count else { return false }
    let slot = slots[tag.index]
    guard slot.isSent, slot.generation == tag.generation, slot.connection == connection else {
      return true
    }
    guard slot.request.operation == .read else { return false }
    end(tag.index, .success, slot.request.data.byteCount)
    return true
  }

  /// A response has come. False when it breaks the protocol.
  func responded(_ response: ResponseCapsule, over connection: UInt32) -> Bool {
    guard response.tag.index < slots.count else { return false }
    let slot = slots[response.tag.index]
    guard slot.isSent, slot.generation == response.tag.generation, slot.connection == connection
    else { return true }
    let count = min(response.transferredByteCount, slot.request.data.byteCount)
    // A read that says success without its data would hand on what was there before.
    if slot.request.operation == .read, response.status.status == .success,
      response.transferredByteCount != slot.request.data.byteCount
    {
      return false
    }
    end(response.tag.index, response.status.status, count)
    return true
  }

  /// Puts a request's end into the batch.
  func end(_ index: Int, _ status: BlockStatus, _ transferredByteCount: UInt32) {
    takeBackLoan(index)
    if slots[index].isSent {
      paths.with(Int(slots[index].path)) { count(index, status, transferredByteCount, on: $0) }
    }
    slots[index].isSent = false
    slots[index].isStranded = false
    slots[index].isTaken = false
    batch[batchCount] = BlockCompletion(
      tag: slots[index].request.tag, status: status, transferredByteCount: transferredByteCount)
    batchCount &+= 1
    freeSlots.give(index)
  }

  /// A request that a path has has ended.
  private func count(
    _ index: Int, _ status: BlockStatus, _ transferredByteCount: UInt32, on path: VolumePath
  ) {
    path.measured(coarseNow &- slots[index].sent, at: coarseNow)
    path.sentCount &-= 1
    if status != .success { path.counters.errorCount &+= 1 }
    switch slots[index].request.operation {
    case .read: path.counters.readByteCount &+= UInt64(transferredByteCount)
    case .write: path.counters.writtenByteCount &+= UInt64(transferredByteCount)
    default: break
    }
    if !path.isProven && path.isReady {
      path.hasProven()
      isProven = true
    }
  }

  /// Tells the handler what has ended.
  func report() {
    // A handler that ends more, by closing the queue, is told of it when it has returned.
    if isReporting { return }
    isReporting = true
    defer { isReporting = false }
    while batchCount > 0 {
      let count = batchCount
      for place in 0..<count { reported[place] = batch[place] }
      batchCount = 0
      reported.withSpan(prefix: count) { handler.remoteVolume(self, completed: $0) }
    }
  }

  /// Ends what no unit would take.
  func endDoomed() {
    while let index = doomed.pop() { end(index, .invalidField, 0) }
    report()
  }

  /// Ends every request with `aborted`.
  func endAll() {
    unsent.removeAll()
    doomed.removeAll()
    for index in 0..<slots.count where slots[index].isTaken {
      if slots[index].isStranded { abandon(slots[index].connection) }
      end(index, .aborted, 0)
    }
    report()
  }
}
