import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// Commands, from what they ask to what is done.
extension CommandQueue {
  // MARK: Before the data

  /// Finds out what a command wants, and what is wrong with it.
  ///
  /// - Parameter dataByteCount: of the data that came with it.
  func prepare(_ number: Int, dataByteCount: Int) {
    let command = slots[number].command
    var status = isAdmin || command.isFabrics ? prepareAdmin(number) : prepareIO(number)
    // Disconnect is a queue's last command. (NVMe over Fabrics 1.1, section 3.6)
    if isClosing { status = .commandSequenceError }
    if status == .success { status = judgeDescriptor(number, dataByteCount: dataByteCount) }
    slots[number].status = status
  }

  private func prepareAdmin(_ number: Int) -> Status {
    let command = slots[number].command
    // It may have to wait for a buffer, and others behind it.
    if isAdmin { controller?.heard(at: .now) }
    let isConnect = command.isFabrics && command.fabricsType == Opcode.Fabrics.connect
    if phase == .connecting {
      guard isConnect else { return .commandSequenceError }
      guard command.data.byteCount == UInt32(ConnectCommand.byteCount) else {
        return .dataLengthInvalid
      }
    }
    let direction = command.direction
    guard direction == .fromHost || direction == .toHost else { return .success }
    slots[number].io.direction = direction
    slots[number].io.byteCount = command.data.byteCount
    guard direction == .fromHost else { return .success }
    return command.data.byteCount <= UInt32(Self.adminByteCount)
      ? .success : .dataLengthInvalid
  }

  private func prepareIO(_ number: Int) -> Status {
    let command = slots[number].command
    guard Opcode.IO.isSupported(command.opcode) else { return .invalidOpcode }
    guard let way = way(to: command.namespace) else { return .invalidNamespace }
    let (status, io) = Controller.translate(command, blockShift: way.with { $0.blockShift })
    slots[number].io = io
    guard status == .success else { return status }
    guard io.byteCount <= transferByteLimit else {
      return .invalidField
    }
    let given = command.data.byteCount
    switch io.form {
    case .ranges, .nothing:
      // There may be room for more ranges than there are, which comes along.
      slots[number].io.byteCount = given
      let most = UInt32(Controller.rangeLimit * Controller.rangeByteCount)
      return given >= io.byteCount && given <= most ? .success : .dataLengthInvalid
    default:
      if io.direction == .none || given == io.byteCount { return .success }
      return io.direction == .toHost && given > io.byteCount ? .success : .dataLengthInvalid
    }
  }

  // MARK: Carrying out

  /// A command whose data, if any, did not come with it: behind those that wait for a buffer, where it
  /// needs one.
  func begin(_ number: Int) {
    let io = slots[number].io
    let needsBuffer = io.direction != .none && io.byteCount > 0 || io.form == .pieces
    if needsBuffer && !waiting.isEmpty || !goOn(number) { wait(number) }
  }

  /// All data that was fetched is in the command's buffer.
  func dataHasCome(_ number: Int) {
    fetchCount &-= 1
    slots[number].isReceiving = false
    slots[number].receivedByteCount = slots[number].io.byteCount
    carryOut(number)
  }

  /// A command whose data has come, or whose last step has ended.
  func carryOut(_ number: Int) {
    if !goOn(number) { wait(number) }
  }

  /// The next step of a command. False when it must wait for a buffer or for room in the port.
  func goOn(_ number: Int) -> Bool {
    if slots[number].status != .success {
      finish(number, slots[number].status)
      return true
    }
    if slots[number].io.direction == .fromHost,
      slots[number].receivedByteCount < slots[number].io.byteCount
    {
      guard takeBuffer(number) else { return givesUp(number) }
      slots[number].isReceiving = true
      fetchCount &+= 1
      fetchData(number)
      return true
    }
    if isAdmin || slots[number].command.isFabrics {
      let answers = slots[number].io.direction == .toHost && slots[number].io.byteCount > 0
      if answers, answersFromBuffers, !takeBuffer(number) { return givesUp(number) }
      performAdmin(number)
      return true
    }
    switch slots[number].io.form {
    case .request: return submit(number)
    case .nothing:
      finish(number, .success)
      return true
    case .ranges: return submitRange(number)
    case .pieces: return submitPiece(number)
    }
  }

  /// Ends a command for which there is no buffer and never will be. False when it only has to wait.
  private func givesUp(_ number: Int) -> Bool {
    guard frontEnd.buffers.isExhausted else { return false }
    finish(number, .internalError)
    return true
  }

  /// Hands a command to the port, or answers a read from where the blocks lie.
  private func submit(_ number: Int) -> Bool {
    guard let way = way(to: slots[number].command.namespace) else {
      finish(number, .invalidNamespace)
      return true
    }
    let isRead = slots[number].io.direction == .toHost
    if isRead, sendsInPlace,
      let address = way.with({ way in
        way.port.directAddress(
          block: slots[number].io.request.block, blockCount: slots[number].io.request.blockCount)
      })
    {
      count(number)
      respond(number, withDataAt: address, isInPlace: true)
      return true
    }
    if isRead, !takeBuffer(number) { return givesUp(number) }
    var request = slots[number].io.request
    if let buffer = slots[number].buffer, request.operation.movesData {
      request.address = buffer.address
    }
    return submit(request, number, over: way)
  }

  @inline(__always)
  private func submit(
    _ request: BlockRequest, _ number: Int, over way: UncountedReference<VolumeWay>
  ) -> Bool {
    var request = request
    request.tag = UInt64(number)
    return way.with { $0.port.submit(request, for: $0.client) }
  }

  /// Deallocates the next range that is not empty.
  private func submitRange(_ number: Int) -> Bool {
    guard let way = way(to: slots[number].command.namespace), let buffer = slots[number].buffer
    else {
      finish(number, .invalidNamespace)
      return true
    }
    let data = unsafe WireView(
      UnsafeRawPointer(bitPattern: UInt(buffer.address))!,
      byteCount: Int(slots[number].io.byteCount))
    let count = Controller.rangeCount(slots[number].command)
    while Int(slots[number].doneCount) < count {
      if let request = Controller.range(Int(slots[number].doneCount), of: data) {
        return submit(request, number, over: way)
      }
      slots[number].doneCount += 1
    }
    finish(number, .success)
    return true
  }

  /// Reads the next piece of the blocks to be verified.
  private func submitPiece(_ number: Int) -> Bool {
    guard let way = way(to: slots[number].command.namespace) else {
      finish(number, .invalidNamespace)
      return true
    }
    let whole = slots[number].io.request
    let left = whole.blockCount - slots[number].doneCount
    guard left > 0 else {
      finish(number, .success)
      return true
    }
    slots[number].io.byteCount = UInt32(Controller.verifyByteCount)
    guard takeBuffer(number), let buffer = slots[number].buffer else { return givesUp(number) }
    let shift = UInt32(way.with { $0.blockShift })
    let count = min(left, UInt32(Controller.verifyByteCount) >> shift)
    let request = BlockRequest(
      .read, block: whole.block &+ UInt64(slots[number].doneCount), blockCount: count,
      address: buffer.address, byteCount: count << shift)
    return submit(request, number, over: way)
  }
}
