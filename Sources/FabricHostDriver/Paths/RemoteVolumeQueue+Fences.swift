import FabricBounded
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs

/// Fence before resubmit: what was under way on a connection that was lost may still be alive at the
/// unit. Over a connection that stands the unit is asked to end it for good, and how it ended; only what
/// the unit does not know of is sent again. (IO-37, IO-50 to IO-52)
extension RemoteVolumeQueue {
  /// Asks about lost connections, one at a time over each that stands.
  func sendFences() {
    for dead in dead where !dead.isAsked {
      for path in paths.paths where path.isReady {
        guard let connection = path.connection, connection.fenced == nil,
          ask(about: dead, over: connection)
        else { continue }
        break
      }
    }
  }

  private func ask(about dead: DeadConnection, over connection: PathConnection) -> Bool {
    guard fencesBeforeResubmit else {
      resend(dead)
      return true
    }
    var tags: [RequestTag] = []
    for index in 0..<slots.count
    where isStranded(index, by: dead) && slots[index].request.operation != .read
      && tags.count < FenceRequest.maximumTagCount
    {
      tags.append(tag(of: index))
    }
    let request = FenceRequest(dead.name, tags: tags)
    guard let channel = connection.path.channel,
      channel.send(kind: MessageKind.fence.rawValue, tag: 0, bytes: request.encoded()) == nil
    else { return false }
    channel.flush()
    dead.isAsked = true
    connection.fenced = dead
    return true
  }

  private func isStranded(_ index: Int, by dead: DeadConnection) -> Bool {
    slots[index].isStranded && slots[index].connection == dead.serial
  }

  private func tag(of index: Int) -> RequestTag {
    RequestTag(index: UInt16(index), generation: slots[index].generation)
  }

  /// The unit has fenced a connection. False when it was not asked to.
  func fenced(_ answer: FenceAnswer, over connection: PathConnection) -> Bool {
    guard let dead = connection.fenced, dead.name == answer.connection else { return false }
    connection.fenced = nil
    dead.isAsked = false
    for outcome in answer.outcomes {
      let index = outcome.tag.index
      guard index < slots.count, isStranded(index, by: dead), tag(of: index) == outcome.tag else {
        continue
      }
      // What was aborted, as when a volume is closed, was not done.
      if let status = outcome.status, status != .aborted {
        dead.path.counters.recoveredCount &+= 1
        end(index, status, min(outcome.transferredByteCount, slots[index].request.data.byteCount))
      } else {
        resend(index, by: dead)
      }
    }
    // A read is sent again in any case: whether its data has come all the way is not for the unit to know.
    var isDone = true
    for index in 0..<slots.count where isStranded(index, by: dead) {
      if slots[index].request.operation == .read {
        resend(index, by: dead)
      } else {
        isDone = false
      }
    }
    if isDone { forget(dead) }
    sendFences()
    return true
  }

  private func resend(_ index: Int, by dead: DeadConnection) {
    dead.path.counters.resentCount &+= 1
    slots[index].isStranded = false
    slots[index].generation = (slots[index].generation &+ 1) & 0x7FFF
    unsent.push(index)
  }

  private func resend(_ dead: DeadConnection) {
    for index in 0..<slots.count where isStranded(index, by: dead) { resend(index, by: dead) }
    forget(dead)
  }

  private func forget(_ gone: DeadConnection) {
    dead.removeAll { $0 === gone }
    isBarred = dead.contains(where: \.hasAbandoned)
  }

  /// A request that was under way on a lost connection ends for its user, and may not have ended at the
  /// unit: nothing is sent before that is fenced, as it may be about the same blocks.
  func abandon(_ serial: UInt32) {
    guard let dead = dead.first(where: { $0.serial == serial }) else { return }
    dead.hasAbandoned = true
    isBarred = true
  }
}
