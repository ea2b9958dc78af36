import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// Commands, from what they ask to what is done.
extension QueueConnection {
  // MARK: Before the data

  /// Finds out what a command wants, and what is wrong with it.
  ///
  /// - Parameter dataByteCount: of the data that came with it.
  func prepare(_ number: Int, dataByteCount: Int) {
    let command = slots[number].command
    var status = isAdmin || command.isFabrics ? prepareAdmin(number) : prepareIO(number)
    if status == .success { status = judgeDescriptor(number, dataByteCount: dataByteCount) }
    slots[number].status = status
  }

  private func prepareAdmin(_ number: Int) -> Status {
    let command = slots[number].command
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
    return command.data.byteCount <= UInt32(Self.adminCapsuleByteCount)
      ? .success : .dataLengthInvalid
  }

  private func prepareIO(_ number: Int) -> Status {
    let command = slots[number].command
    guard Opcode.IO.isSupported(command.opcode) else { return .invalidOpcode }
    guard let way = way(to: command.namespace) else { return .invalidNamespace }
    let (status, io) = Controller.translate(command, blockShift: way.with { $0.blockShift })
    slots[number].io = io
    guard status == .success else { return status }
    guard io.byteCount <= UInt32(target.subsystem.options.maximumTransferByteCount) else {
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

  /// Whether the data is where the descriptor says. (NVMe/TCP 1.0, section 3.4)
  private func judgeDescriptor(_ number: Int, dataByteCount: Int) -> Status {
    let data = slots[number].command.data
    let needsData = slots[number].io.direction == .fromHost && slots[number].io.byteCount > 0
    switch data.form {
    case .inCapsule:
      guard needsData || dataByteCount == 0 else { return .dataLengthInvalid }
      let wantsData = slots[number].io.direction == .toHost && slots[number].io.byteCount > 0
      guard needsData else { return wantsData ? .descriptorTypeInvalid : .success }
      guard data.low == 0 else { return .offsetInvalid }
      return Int(data.byteCount) == dataByteCount ? .success : .dataLengthInvalid
    case .transport: return dataByteCount == 0 ? .success : .descriptorTypeInvalid
    default:
      let isUsed = slots[number].io.direction != .none && slots[number].io.byteCount > 0
      return isUsed ? .descriptorTypeInvalid : .success
    }
  }

  /// The way to a namespace; made when it is first used. Nil: there is none for this host.
  @inline(__always)
  private func way(to number: UInt32) -> UncountedReference<VolumeWay>? {
    knownWay(to: number) ?? newWay(to: number)
  }

  private func newWay(to number: UInt32) -> UncountedReference<VolumeWay>? {
    guard let controller, let namespace = controller.namespace(number),
      let access = controller.access(to: namespace.volume),
      let port = try? frontEnd.port(on: namespace.volume, access: access)
    else { return nil }
    let client = port.attach(self, account: controller.account(of: namespace))
    return add(
      VolumeWay(port: port, client: client, blockShift: namespace.blockShift), to: number)
  }

  // MARK: Buffers

  /// Takes a buffer for a command's data. False when there is none now.
  func takeBuffer(_ number: Int, isOfCapsule: Bool = false) -> Bool {
    if slots[number].buffer != nil { return true }
    let count = max(1, Int(slots[number].io.byteCount))
    slots[number].buffer = buffer(byteCount: count, isOfCapsule: isOfCapsule)
    return slots[number].buffer != nil
  }

  /// Looks at no more input until a capsule's data would find a buffer.
  func rest() {
    inputRests = true
    stream.pauseInput()
    beginWaiting()
  }

  private func wait(_ number: Int) {
    if slots[number].buffer == nil { waiting.push(number) } else { delayed.push(number) }
    beginWaiting()
  }

  private func beginWaiting() {
    guard !isWaiting else { return }
    isWaiting = true
    frontEnd.wait(self)
  }

  func retry() -> Bool {
    // What frees buffers may come behind the capsule: input does not wait for the commands before it.
    if inputRests, hasCapsuleBuffer {
      inputRests = false
      stream.resumeInput()
    }
    for queue in [delayed, waiting] {
      while phase != .ended, let number = queue.first {
        guard goOn(number) else {
          move(number, from: queue)
          return false
        }
        _ = queue.pop()
      }
    }
    isWaiting = inputRests || !delayed.isEmpty || !waiting.isEmpty
    return !isWaiting
  }

  /// One that has found a buffer, and no room in the port, holds up none that needs a buffer.
  private func move(_ number: Int, from queue: IndexQueue) {
    guard queue === waiting, slots[number].buffer != nil else { return }
    _ = waiting.pop()
    delayed.push(number)
  }

  // MARK: Carrying out

  /// A command whose data, if any, did not come with it: behind those that wait for a buffer.
  func begin(_ number: Int) {
    if !waiting.isEmpty || !goOn(number) { wait(number) }
  }

  /// A command whose data has come, or whose last step has ended.
  func carryOut(_ number: Int) {
    if !goOn(number) { wait(number) }
  }

  /// The next step of a command. False when it must wait for a buffer or for room in the port.
  private func goOn(_ number: Int) -> Bool {
    if slots[number].status != .success {
      finish(number, slots[number].status)
      return true
    }
    if slots[number].io.direction == .fromHost,
      slots[number].receivedByteCount < slots[number].io.byteCount
    {
      guard takeBuffer(number) else { return false }
      askForData(number)
      return true
    }
    if isAdmin || slots[number].command.isFabrics {
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

  /// Hands a command to the port, or answers a read from where the blocks lie.
  private func submit(_ number: Int) -> Bool {
    guard let way = way(to: slots[number].command.namespace) else {
      finish(number, .invalidNamespace)
      return true
    }
    let isRead = slots[number].io.direction == .toHost
    if isRead, !usesDataDigest,
      let address = way.with({ way in
        way.port.directAddress(
          block: slots[number].io.request.block, blockCount: slots[number].io.request.blockCount)
      })
    {
      sendData(number, address: address, byteCount: Int(slots[number].io.byteCount), token: nil)
      finishRead(number)
      return true
    }
    if isRead, !takeBuffer(number) { return false }
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
    guard takeBuffer(number), let buffer = slots[number].buffer else { return false }
    let shift = UInt32(way.with { $0.blockShift })
    let count = min(left, UInt32(Controller.verifyByteCount) >> shift)
    let request = BlockRequest(
      .read, block: whole.block &+ UInt64(slots[number].doneCount), blockCount: count,
      address: buffer.address, byteCount: count << shift)
    return submit(request, number, over: way)
  }

  // MARK: Ends

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
      // The buffer comes back when the data is out.
      sendData(
        number, address: buffer.address, byteCount: Int(slots[number].io.byteCount),
        token: UInt64(number))
      finishRead(number)
    }
  }

  private func verifiedBlockCount(_ number: Int, _ completion: BlockCompletion) -> UInt32 {
    guard let way = way(to: slots[number].command.namespace) else { return .max }
    return completion.transferredByteCount >> UInt32(way.with { $0.blockShift })
  }

  /// A read's data is queued: says that it has ended, where the data does not say so.
  private func finishRead(_ number: Int) {
    count(number)
    if !endsWithData { respond(slots[number].command.identifier, .success, result: 0) }
    if slots[number].buffer == nil { freeSlots.give(number) }
  }

  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>) {
    for index in tokens.indices {
      let number = Int(truncatingIfNeeded: tokens[index])
      giveBuffer(number)
      freeSlots.give(number)
    }
    frontEnd.somethingCameFree()
  }

  func giveBuffer(_ number: Int) {
    guard let buffer = slots[number].buffer else { return }
    slots[number].buffer = nil
    give(buffer)
  }

  /// Answers a command, and forgets it.
  func finish(_ number: Int, _ status: Status, result: UInt64 = 0) {
    respond(slots[number].command.identifier, status, result: result)
    forget(number)
  }

  func forget(_ number: Int) {
    let hadBuffer = slots[number].buffer != nil
    giveBuffer(number)
    freeSlots.give(number)
    if hadBuffer { frontEnd.somethingCameFree() }
  }

  /// For the health log.
  @inline(__always)
  private func count(_ number: Int) {
    let units = UInt64(slots[number].io.byteCount >> 9)
    switch slots[number].io.request.operation {
    case .read: counters.countRead(units: units)
    case .write: counters.countWrite(units: units)
    default: break
    }
  }
}
