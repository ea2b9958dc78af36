import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// Commands that the controller carries out by itself.
extension CommandQueue {
  func performAdmin(_ number: Int) {
    let command = slots[number].command
    let data = slots[number].buffer.map { buffer in
      unsafe WireView(
        UnsafeRawPointer(bitPattern: UInt(buffer.address))!,
        byteCount: Int(slots[number].io.byteCount))
    }
    guard phase == .connected else {
      guard let data else { return finish(number, .dataLengthInvalid) }
      return connect(number, data)
    }
    guard let controller else { return finish(number, .internalError) }
    guard isAdmin else { return performOnIOQueue(number) }
    switch controller.perform(command, data: data, at: .now) {
    case .done(let status, let result): finish(number, status, result: result)
    case .data(let bytes): answer(number, with: bytes)
    case .held: heldSlots.append((command.identifier, number))
    }
    // A shorter time-out may have been set.
    target.deadlinesMayHaveChanged()
  }

  /// Of Fabrics commands an I/O queue takes Disconnect. (NVMe over Fabrics 1.1, section 3.6)
  private func performOnIOQueue(_ number: Int) {
    switch slots[number].command.fabricsType {
    case Opcode.Fabrics.disconnect:
      guard slots[number].command.dword10 & 0xFFFF == 0 else {
        return finish(number, .connectIncompatibleFormat)
      }
      finish(number, .success)
      close()
    case Opcode.Fabrics.connect: finish(number, .commandSequenceError)
    case Opcode.Fabrics.propertyGet, Opcode.Fabrics.propertySet: finish(number, .invalidField)
    default: finish(number, .invalidOpcode)
    }
  }

  private func connect(_ number: Int, _ data: WireView) {
    let command = slots[number].command
    do throws(NVMSubsystem.Refusal) {
      if let refusal = refusal(of: ConnectCommand(command)) { throw refusal }
      let queue = try target.subsystem.connect(
        command, data: data, link: self, over: transport, from: origin, reachedAt: reachedAt,
        at: .now)
      giveBuffer(number)
      become(queue)
      let number = hasConnected(number, depth: queue.depth)
      finish(number, .success, result: UInt64(queue.controller.number))
      if queue.number == 0, queue.controller.kind == .io {
        frontEnd.log("\(queue.controller.host.name) (\(peerName)): connected")
      }
      target.deadlinesMayHaveChanged()
    } catch {
      frontEnd.refused("refused \(peerName): \(error.words)")
      finish(number, error.status, result: error.result)
      // Nothing else may come from it.
      close()
    }
  }

  /// Sends what the host has asked for, where it has room for all of it.
  private func answer(_ number: Int, with bytes: [UInt8]) {
    guard slots[number].command.data.form != .inCapsule else {
      return finish(number, .descriptorTypeInvalid)
    }
    guard Int(slots[number].io.byteCount) >= bytes.count else {
      return finish(number, .dataLengthInvalid)
    }
    respond(number, with: bytes)
  }

  func answer(_ identifier: UInt16, _ status: Status, result: UInt64) {
    guard let index = heldSlots.firstIndex(where: { $0.identifier == identifier }),
      phase == .connected
    else { return }
    finish(heldSlots.remove(at: index).slot, status, result: result)
    flush()
  }

  func forgetHeld() {
    guard phase == .connected else { return }
    let all = heldSlots
    heldSlots = []
    for held in all { drop(held.slot) }
    flush()
  }
}
