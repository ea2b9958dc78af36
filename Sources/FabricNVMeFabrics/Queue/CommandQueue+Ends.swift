import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage

/// Commands, from where a port has carried them out to their answers.
extension CommandQueue {
  func port(_ port: ServedPort, ended completions: Span<BlockCompletion>) {
    for index in completions.indices {
      ended(Int(truncatingIfNeeded: completions[index].tag & 0xFFFF_FFFF), completions[index])
    }
  }

  private func ended(_ number: Int, _ completion: BlockCompletion) {
    guard phase == .connected else { return }
    guard completion.status == .success else {
      if completion.status == .mediaReadError || completion.status == .mediaWriteError {
        counters.mediaErrors &+= 1
      }
      return finish(number, Status(completion.status))
    }
    switch slots[number].io.form {
    case .ranges:
      slots[number].doneCount += 1
      carryOut(number)
    case .pieces:
      slots[number].doneCount += verifiedBlockCount(number, completion)
      carryOut(number)
    default:
      guard slots[number].io.direction == .toHost, let buffer = slots[number].buffer else {
        count(number)
        return finish(number, .success)
      }
      count(number)
      respond(number, withDataAt: buffer.address, isInPlace: false)
    }
  }

  private func verifiedBlockCount(_ number: Int, _ completion: BlockCompletion) -> UInt32 {
    guard let way = way(to: slots[number].command.namespace) else { return .max }
    return completion.transferredByteCount >> UInt32(way.with { $0.blockShift })
  }

  /// Answers a command that has ended.
  func finish(_ number: Int, _ status: Status, result: UInt64 = 0) {
    respond(number, status, result: result)
  }

  /// The host has been answered: the slot and its buffer are free.
  func forget(_ number: Int) {
    let hadBuffer = slots[number].buffer != nil
    giveBuffer(number)
    freeSlots.give(number)
    if hadBuffer { frontEnd.somethingCameFree() }
    closeIfIdle()
  }

  /// For the health log.
  @inline(__always)
  func count(_ number: Int) {
    let units = UInt64(slots[number].io.byteCount >> 9)
    switch slots[number].io.request.operation {
    case .read: counters.countRead(units: units)
    case .write: counters.countWrite(units: units)
    default: break
    }
  }
}
