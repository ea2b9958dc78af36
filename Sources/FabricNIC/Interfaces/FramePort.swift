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
  /// The interface's number, by which it is known whatever it is called.
  private let index: CInt
  private let claim: InterfaceClaim
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
    _ interface: NetworkInterface, _ claim: consuming InterfaceClaim, queues: [CInt], isTAP: Bool
  ) throws(InterfaceError) {
    self.interface = interface
    self.claim = claim
    index = interface.index
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

  /// A TAP interface; it is made where it is not there, and goes with the port unless `keep` was called.
  ///
  /// - Parameter queueCount: 1 to 16.
  public static func tap(
    _ interface: NetworkInterface, queueCount: Int
  ) throws(InterfaceError) -> FramePort {
    precondition((1...maximumQueueCount).contains(queueCount), "1 to 16 queues")
    // One that is there is touched only when nobody else serves it.
    if interface.exists {
      let claim = try InterfaceClaim(interface)
      return try FramePort(
        interface, claim, queues: try openQueues(of: interface, queueCount), isTAP: true)
    }
    let queues = try openQueues(of: interface, queueCount)
    let claim: InterfaceClaim
    do throws(InterfaceError) { claim = try InterfaceClaim(interface) } catch {
      for queue in queues { close(queue) }
      throw error
    }
    return try FramePort(interface, claim, queues: queues, isTAP: true)
  }

  private static func openQueues(
    of interface: NetworkInterface, _ count: Int
  ) throws(InterfaceError) -> [CInt] {
    var queues: [CInt] = []
    do throws(InterfaceError) {
      for _ in 0..<count {
        queues.append(try openQueue(of: interface, queueCount: count))
        guard fabric_tap_offload(queues[queues.count - 1]) == 0 else {
          throw .system("set what \(interface) leaves to others", .current)
        }
      }
    } catch {
      for queue in queues { close(queue) }
      throw error
    }
    return queues
  }

  private static func openQueue(
    of interface: NetworkInterface, queueCount: Int
  ) throws(InterfaceError) -> CInt {
    var queue = unsafe fabric_tap_open(interface.name, true)
    if queue < 0, Errno.current == .invalidArgument, queueCount == 1 {
      queue = unsafe fabric_tap_open(interface.name, false)
    }
    if queue >= 0 { return queue }
    let error = Errno.current
    if error == .invalidArgument { throw .unfit(interface.name, queueCount: queueCount) }
    throw .system("open the TAP interface \(interface)", error)
  }

  /// All frames that come to an interface from outside.
  public static func packets(of interface: NetworkInterface) throws(InterfaceError) -> FramePort {
    let claim = try InterfaceClaim(interface)
    let socket = unsafe fabric_packet_open(interface.name)
    guard socket >= 0 else {
      throw .system("receive the frames of the interface \(interface)", .current)
    }
    return try FramePort(interface, claim, queues: [socket], isTAP: false)
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

  /// Has the interface stay when nobody serves it.
  public func keep() throws(InterfaceError) {
    guard fabric_tap_persist(queues[0], true) == 0 else {
      throw .system("have \(interface) stay", .current)
    }
  }

  /// Has the interface go: at once where it is still in this network namespace, otherwise with the port.
  public func remove() {
    _ = fabric_tap_persist(queues[0], false)
    if locate() == .here { try? interface.remove() }
  }

  /// What has become of an interface meanwhile.
  public enum Whereabouts: Sendable {
    case here
    /// In another network namespace: frames still pass, and its name and address are not ours to see.
    case elsewhere
    case gone
  }

  /// Looks where the interface is; `interface` has the name that others may have given it.
  public func locate() -> Whereabouts {
    if isGone { return .gone }
    guard isTAP else {
      guard let found = NetworkInterface(index: index) else { return .gone }
      interface = found
      return .here
    }
    guard let name = unsafe InterfaceName.read({ unsafe fabric_tap_name(queues[0], $0) }) else {
      return .gone
    }
    let found = NetworkInterface(asFound: name)
    guard found.index == index else { return .elsewhere }
    interface = found
    return .here
  }

  /// Frames that the kernel had no room for since this was asked last; 0 of a TAP interface, whose kernel knows them.
  public func takeMissedCount() -> UInt64 { isTAP ? 0 : fabric_packet_drops(queues[0]) }

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
      let result = unsafe place.withBytes { bytes, count in
        unsafe isTAP
          ? Glibc.read(queues[nextQueue], bytes, count)
          : fabric_packet_read(
            queues[nextQueue], bytes.assumingMemoryBound(to: UInt8.self), count)
      }
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
