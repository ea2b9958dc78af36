import CFabricLinux
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricWire

/// Reads at random, as many at once as agreed.
extension NVMeClient {
  /// From so many bytes on a read's data is received to where it belongs; less is received with others'.
  private static let placedByteCount = 32 << 10

  /// Reads `blockCount` blocks of 4096 bytes each time.
  ///
  /// - Returns: reads in a second.
  func read(blockCount: Int, of total: Int, seconds: Double) throws -> Double {
    for number in 0..<depth { ask(UInt16(number), blockCount, of: total) }
    try flush(queue)
    let isPlaced = blockCount * 4096 >= Self.placedByteCount
    var kept = 0
    var placement = Placement()
    let destinations = isPlaced ? Destinations(count: depth, byteCount: blockCount * 4096) : nil
    var count = 0
    var measured = 0
    var start = MonotonicTime.now
    let warm = start + .seconds(seconds / 10)
    var isWarm = false
    while true {
      if let destinations {
        count += try place(&placement, in: destinations, blockCount, of: total)
      } else {
        count += try receive(&kept, blockCount, of: total)
      }
      // The clock costs as much as a command.
      measured += 1
      guard measured & 63 == 0 else { continue }
      let now = MonotonicTime.now
      if !isWarm, now >= warm {
        isWarm = true
        count = 0
        start = now
      } else if isWarm, now >= start + .seconds(seconds) {
        return Double(count) / (Double(now.nanoseconds(since: start)) / 1e9)
      }
    }
  }

  private func ask(_ identifier: UInt16, _ blockCount: Int, of total: Int) {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    let block = random % UInt64(total / blockCount) * UInt64(blockCount)
    var command = Command(opcode: Opcode.IO.read, identifier: identifier, namespace: 1)
    command.data = .transport(byteCount: UInt32(blockCount * 4096))
    command.dword10 = UInt32(truncatingIfNeeded: block)
    command.dword12 = UInt32(blockCount - 1)
    append(command)
  }

  // MARK: Many at once

  /// One system call; returns how many reads ended.
  private func receive(_ kept: inout Int, _ blockCount: Int, of total: Int) throws -> Int {
    switch unsafe queue.receive(
      UnsafeMutableRawBufferPointer(start: input + kept, count: Self.inputByteCount - kept))
    {
    case .bytes(let more):
      let all = kept + more
      let (taken, ended) = try take(all, blockCount, of: total)
      if taken < all { unsafe input.copyMemory(from: input + taken, byteCount: all - taken) }
      kept = all - taken
      try flush(queue)
      return ended
    case .wouldBlock: return 0
    case .end, .failed: throw Failure("the unit hung up")
    }
  }

  /// Takes the data of commands that are there whole, and asks for as many more.
  ///
  /// - Returns: bytes taken, and commands ended.
  private func take(_ all: Int, _ blockCount: Int, of total: Int) throws -> (Int, Int) {
    var offset = 0
    var ended = 0
    while all - offset >= PDU.dataByteCount {
      let view = unsafe WireView(input + offset, byteCount: PDU.dataByteCount)
      let common = PDU.Common(view)
      try check(common)
      guard all - offset >= Int(common.byteCount) else { break }
      offset += Int(common.byteCount)
      ended += 1
      ask(PDU.Transfer(view).command, blockCount, of: total)
    }
    return (offset, ended)
  }

  private func check(_ common: PDU.Common) throws {
    guard common.kind == PDU.Kind.controllerData.rawValue, common.flags.contains(.success) else {
      throw Failure("the unit sent a PDU of type \(common.kind) in place of data")
    }
  }

  // MARK: One at a time

  /// How far a read's header, or its data, has come.
  private struct Placement {
    var headerByteCount = 0
    var command: UInt16 = 0
    /// Of the data; what is left.
    var leftByteCount = 0
    var offset = 0
  }

  /// Where each command's data belongs.
  @safe
  private final class Destinations {
    let memory: UnsafeMutableRawPointer
    let byteCount: Int

    init(count: Int, byteCount: Int) {
      self.byteCount = byteCount
      unsafe memory = .allocate(byteCount: count * byteCount, alignment: 4096)
    }

    deinit { unsafe memory.deallocate() }
  }

  /// One system call, for the rest of a read's data and the header behind it; returns how many reads ended.
  private func place(
    _ placement: inout Placement, in destinations: Destinations, _ blockCount: Int, of total: Int
  ) throws -> Int {
    let start =
      Int(placement.command) * destinations.byteCount + placement.offset
    var pieces = unsafe (
      iovec(iov_base: destinations.memory + start, iov_len: placement.leftByteCount),
      iovec(
        iov_base: input + placement.headerByteCount,
        iov_len: PDU.dataByteCount - placement.headerByteCount)
    )
    let result = unsafe withUnsafeMutablePointer(to: &pieces) { pair in
      unsafe pair.withMemoryRebound(to: iovec.self, capacity: 2) {
        unsafe queue.handle.receive($0, count: 2)
      }
    }
    switch result {
    case .bytes(let count):
      let data = min(count, placement.leftByteCount)
      let hasEnded = data > 0 && data == placement.leftByteCount
      placement.leftByteCount -= data
      placement.offset += data
      placement.headerByteCount += count - data
      if hasEnded {
        ask(placement.command, blockCount, of: total)
        try flush(queue)
      }
      if placement.headerByteCount == PDU.dataByteCount {
        let view = unsafe WireView(input, byteCount: PDU.dataByteCount)
        let common = PDU.Common(view)
        try check(common)
        placement = Placement(
          command: PDU.Transfer(view).command,
          leftByteCount: Int(common.byteCount) - PDU.dataByteCount)
      }
      return hasEnded ? 1 : 0
    case .wouldBlock: return 0
    case .end, .failed: throw Failure("the unit hung up")
    }
  }
}
