import CFabricLinux
import CFabricURing
import FabricPlatform
import FabricRing
public import FabricWire
import Glibc

/// Where frames come from the kernel and go to it: the queues of a TAP interface, or a socket that has an
/// interface's frames.
///
/// That there is something to read is told by an io_uring, without a system call; each frame is a read or a write.
///
/// Threads: made on any, then confined to one.
@safe
public final class FramePort {
  public private(set) var interface: NetworkInterface
  /// Whether it is a TAP interface.
  public let isTAP: Bool
  private let queues: [CInt]
  private let ring: Ring
  /// Queues that have something to read, as far as is known.
  private var readable: UInt64 = 0
  /// Queues whose next frame is waited for.
  private var awaited: UInt64 = 0
  private var nextQueue = 0
  /// The interface was removed by others.
  public private(set) var isGone = false

  public static let maximumQueueCount = 16

  private init(
    _ interface: NetworkInterface, queues: [CInt], isTAP: Bool
  ) throws(InterfaceError) {
    self.interface = interface
    self.queues = queues
    self.isTAP = isTAP
    do throws(Errno) {
      ring = try Ring(entryCount: 2 * Self.maximumQueueCount, file: queues[0], for: .polls)
    } catch {
      for queue in queues { close(queue) }
      throw .system("make an io_uring", error)
    }
  }

  deinit { for queue in queues { close(queue) } }

  /// A TAP interface; it is made where it is not there. One that stays is gone when `setStaying(false)` was called and
  /// the port goes.
  ///
  /// - Parameter queueCount: 1 to 16.
  public static func tap(
    _ interface: NetworkInterface, queueCount: Int
  ) throws(InterfaceError) -> FramePort {
    precondition((1...maximumQueueCount).contains(queueCount), "1 to 16 queues")
    var queues: [CInt] = []
    for _ in 0..<queueCount {
      let queue = unsafe fabric_tap_open(interface.name)
      guard queue >= 0 else {
        let error = Errno.current
        for queue in queues { close(queue) }
        throw .system("open the TAP interface \(interface)", error)
      }
      queues.append(queue)
      guard fabric_tap_offload(queue) == 0 else {
        let error = Errno.current
        for queue in queues { close(queue) }
        throw .system("set what \(interface) leaves to others", error)
      }
    }
    return try FramePort(interface, queues: queues, isTAP: true)
  }

  /// All frames that come to an interface from outside.
  public static func packets(of interface: NetworkInterface) throws(InterfaceError) -> FramePort {
    let socket = unsafe fabric_packet_open(interface.name)
    guard socket >= 0 else {
      throw .system("receive the frames of the interface \(interface)", .current)
    }
    return try FramePort(interface, queues: [socket], isTAP: false)
  }

  // MARK: TAP interfaces

  /// Whether users of the interface see a carrier.
  public func setCarrier(_ isUp: Bool) throws(InterfaceError) {
    guard fabric_tap_carrier(queues[0], isUp) == 0 else {
      throw .system("set the carrier of \(interface)", .current)
    }
  }

  /// Gives the interface another name.
  public func rename(to other: NetworkInterface) throws(InterfaceError) {
    try interface.rename(to: other)
    interface = other
  }

  /// Whether the interface stays when nobody serves it.
  public func setStaying(_ stays: Bool) throws(InterfaceError) {
    guard fabric_tap_persist(queues[0], stays) == 0 else {
      throw .system("have \(interface) stay", .current)
    }
  }

  // MARK: Waiting

  /// Binds the port to the calling thread, once, and waits for frames.
  public func activate() {
    ring.activate()
    expect(all)
  }

  private var all: UInt64 { (1 << UInt64(queues.count)) &- 1 }

  private func expect(_ mask: UInt64) {
    for index in 0..<queues.count where mask & ~awaited & (1 << UInt64(index)) != 0 {
      guard unsafe fabric_uring_poll(ring.entries, UInt64(index), queues[index]) else { continue }
      awaited |= 1 << UInt64(index)
    }
    ring.submit()
  }

  /// Whether there may be something to read. Makes no system call when nothing has come.
  public var isReadable: Bool {
    if readable != 0 { return true }
    look()
    return readable != 0
  }

  private func look() {
    while ring.hasCompletions() {
      let count = ring.take()
      guard count > 0 else { return }
      for index in 0..<count {
        let bit = UInt64(1) << UInt64(ring.completion(at: index).tag)
        awaited &= ~bit
        readable |= bit
      }
    }
  }

  public var descriptor: CInt { ring.descriptor }
  /// Makes `descriptor` readable at the next frame. False when there is one already.
  public func arm() -> Bool { readable == 0 && ring.arm() }
  public func signal() { ring.signal() }
  public func disarm() { ring.disarm() }

  // MARK: Frames

  /// Reads frames into records, one behind the other, until there is no more, or no room for a frame of any length.
  public func read(into buffer: WireBuffer) -> FrameRun {
    var run = FrameRun()
    while readable != 0, buffer.byteCount &- run.byteCount >= FrameRecord.maximumByteCount {
      // In turn: a queue that is never empty is not to keep the others waiting.
      nextQueue = nextQueue &+ 1 >= queues.count ? 0 : nextQueue &+ 1
      let bit = UInt64(1) << UInt64(nextQueue)
      guard readable & bit != 0 else { continue }
      let place = buffer.slice(
        run.byteCount &+ FrameRecord.vnetOffset,
        FrameRecord.vnetByteCount &+ FrameRecord.maximumFrameByteCount)
      let result = unsafe place.withBytes { unsafe Glibc.read(queues[nextQueue], $0, $1) }
      guard result > FrameRecord.vnetByteCount else {
        if result >= 0 || Errno.current == .interrupted { continue }
        readable &= ~bit
        // An interface that has gone does not come back.
        if Errno.current.rawValue == EBADFD { isGone = true } else { expect(bit) }
        continue
      }
      let frameByteCount = result &- FrameRecord.vnetByteCount
      FrameRecord.write(frameByteCount: frameByteCount, to: buffer, at: run.byteCount)
      run.add(frameByteCount: frameByteCount)
    }
    return run
  }

  /// Hands a frame to the kernel.
  ///
  /// - Returns: whether it was taken.
  public func write(_ frame: Frame) -> Bool {
    frame.withPieces { first, second in
      let (head, tail) = unsafe (first.rawBytes, second.rawBytes)
      while true {
        let result = unsafe fabric_write_two(
          queues[0], head.baseAddress, head.count, tail.baseAddress, tail.count)
        if result >= 0 { return true }
        guard Errno.current == .interrupted else { return false }
      }
    }
  }
}

extension WireBuffer {
  fileprivate func withBytes<Result>(
    _ body: (UnsafeMutableRawPointer, Int) -> Result
  ) -> Result {
    let bytes = unsafe view.rawBytes
    return unsafe body(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
  }
}
