import CFabricLinux
import FabricPlatform
import FabricWire

extension ServedStream {
  /// Receives of one stream in its turn, before others have theirs.
  private static let receivesInTurn = 4

  /// Whether there is something that a turn would do.
  var hasWork: Bool {
    switch state {
    case .open: !isResting && (mayHaveInput || isEager || leftoverIsNews)
    case .ending: mayHaveInput
    case .draining, .closed: false
    }
  }

  /// Whether the peer keeps buffers from others until it does something.
  var isDebtor: Bool {
    state == .open && (placementByteCount > 0 || isBlocked || handler?.owesData ?? false)
  }

  /// A turn: gives the handler what has come.
  ///
  /// - Returns: whether anything had.
  func turn() -> Bool {
    if state == .ending { return discard() }
    var hasDone = false
    isYielding = false
    if leftoverIsNews, !isResting {
      leftoverIsNews = false
      if leftoverByteCount >= neededByteCount {
        let count = leftoverByteCount
        leftoverByteCount = 0
        unsafe server.input.copyMemory(from: leftover!, byteCount: count)
        deliver(count)
        hasDone = true
      }
    }
    var turns = 0
    while turns < Self.receivesInTurn, state == .open, !isResting, !isYielding {
      turns &+= 1
      let (received, isAll) = receive()
      guard received else { break }
      hasDone = true
      if isAll { break }
    }
    return hasDone
  }

  /// One system call.
  ///
  /// - Returns: whether anything came, and whether that was all, as far as can be told.
  private func receive() -> (received: Bool, isAll: Bool) {
    let kept = leftoverByteCount
    // The handler makes something of half the room, so that there is some left.
    let room = min(StreamServer.inputByteCount, 2 * StreamServer.inputByteCount &- kept)
    precondition(room > 0, "the handler is given what is here first")
    let placed = placementByteCount
    let result: StreamSocket.Transfer
    if placed > 0 {
      let target = unsafe UnsafeMutableRawPointer(bitPattern: UInt(placementAddress))
      var pieces = unsafe (
        iovec(iov_base: target, iov_len: placed),
        iovec(iov_base: server.input, iov_len: room)
      )
      result = unsafe withUnsafeMutablePointer(to: &pieces) { pair in
        unsafe pair.withMemoryRebound(to: iovec.self, capacity: 2) {
          unsafe handle.receive($0, count: 2)
        }
      }
    } else {
      if kept > 0 { unsafe server.input.copyMemory(from: leftover!, byteCount: kept) }
      var piece = unsafe iovec(iov_base: server.input + kept, iov_len: room)
      result = unsafe handle.receive(&piece, count: 1)
    }
    switch result {
    case .bytes(let count):
      leftoverByteCount = 0
      movedByteCount &+= UInt64(count)
      let direct = min(count, placed)
      if direct > 0 { advancePlacement(direct) }
      if state == .open { deliver(placed > 0 ? count &- direct : kept &+ count) }
      // Less than there was room for: the kernel tells of what comes next.
      let isAll = count < room &+ placed
      if isAll, !endIsNear { mayHaveInput = false }
      return (true, isAll)
    case .wouldBlock:
      mayHaveInput = false
      return (false, true)
    case .end:
      end(.peerEnded)
      return (true, true)
    case .failed(let error):
      end(error == .connectionReset ? .peerEnded : .failed("receiving failed: \(error)"))
      return (true, true)
    }
  }

  private func advancePlacement(_ count: Int) {
    placementAddress &+= UInt64(count)
    placementByteCount &-= count
    if placementByteCount == 0 { handler?.streamDidPlace(self) }
  }

  /// Gives the first `count` bytes of the server's input to where they belong, and sets aside what
  /// the handler leaves.
  private func deliver(_ count: Int) {
    let input = unsafe server.input
    var start = 0
    while state == .open, start < count {
      if placementByteCount > 0 {
        let part = min(placementByteCount, count &- start)
        let target = unsafe UnsafeMutableRawPointer(bitPattern: UInt(placementAddress))!
        unsafe target.copyMemory(from: input + start, byteCount: part)
        start &+= part
        advancePlacement(part)
        continue
      }
      let left = count &- start
      if isResting || isYielding || left < neededByteCount { break }
      neededByteCount = 1
      let view = unsafe WireView(input + start, byteCount: left)
      let consumed = handler?.stream(self, received: view) ?? left
      guard state == .open else { return }
      precondition(consumed >= 0 && consumed <= left, "more was consumed than had come")
      start &+= consumed
      if consumed < left, placementByteCount == 0, !isResting, !isYielding,
        neededByteCount == 1
      {
        // The handler looked at all of it: it needs more.
        let needed = left &- consumed &+ 1
        guard needed <= StreamServer.inputByteCount else {
          return end(.failed("a message is longer than any may be"))
        }
        neededByteCount = needed
      }
    }
    if state == .open, start < count { setAside(start, count &- start) }
  }

  private func setAside(_ start: Int, _ count: Int) {
    if count > leftoverCapacity {
      unsafe leftover?.deallocate()
      leftoverCapacity = max(512, leftoverCapacity)
      while leftoverCapacity < count { leftoverCapacity *= 2 }
      unsafe leftover = .allocate(byteCount: leftoverCapacity, alignment: 64)
    }
    unsafe leftover!.copyMemory(from: server.input + start, byteCount: count)
    leftoverByteCount = count
  }

  /// Throws away what comes after the end of this direction.
  private func discard() -> Bool {
    var piece = unsafe iovec(iov_base: server.input, iov_len: StreamServer.inputByteCount)
    switch unsafe handle.receive(&piece, count: 1) {
    case .bytes: return true
    case .wouldBlock:
      mayHaveInput = false
      return false
    case .end, .failed:
      end(.closed)
      return true
    }
  }
}
