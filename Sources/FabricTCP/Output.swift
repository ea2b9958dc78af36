import FabricBounded
import FabricIWARP
import FabricPlatform
import FabricVerbs
import Synchronization

/// What the transmitting side of a queue pair keeps, under the transmit lock.
@safe
final class Output {
  /// The response to one of the peer's RDMA reads.
  struct Answer {
    let request: ReadRequestHeader
    /// Keeps the memory there until the answer is out.
    let region: MemoryRegion
    var doneByteCount = 0
  }

  /// There once the start-up is over; the queue pair keeps it open.
  var socket: StreamSocket.Handle?
  var segmentByteCount = 0
  var outboundReadDepth: UInt64 = 0
  /// False until the peer's first frame has come, where this side must wait for it.
  var mayTransmit = false
  /// A ready-to-receive frame that goes out before everything else.
  var opening: StartFrame.ReadyToReceive?
  var isBroken = false
  /// The peer is gone without an end in order.
  let hasDied = Atomic<Bool>(false)
  /// There was no room in the socket.
  let isBlocked = Atomic<Bool>(false)
  /// Something was sent since a completion queue was last polled, or several messages came with
  /// that poll: what is posted can wait for the next poll, and then goes out together.
  let hasSentSincePoll = Atomic<Bool>(false)

  // Where composing stands.
  var composedCount: UInt64 = 0
  var composedOffset = 0
  /// The write of a write with immediate is composed.
  var isAtImmediate = false
  var nextSend: UInt32 = 1
  var nextReadRequest: UInt32 = 1
  var answers: [Answer] = []
  /// Whether `answers` holds any: asked before each request.
  var hasAnswers = false
  /// The connection's last words.
  var terminate: [UInt8]? { didSet { hasTerminate = terminate != nil } }
  /// Whether there is `terminate`: asked before each request.
  private(set) var hasTerminate = false
  /// Reads that were asked for and that the receiving side has not heard of.
  var newReads = RingQueue<Inbound.Read>()
  let answersSent = Atomic<UInt64>(0)

  /// Inline bytes of requests that could not be composed at their post; made when first needed.
  private var stash: UnsafeMutableRawPointer?
  private let entryCount: Int

  init(entryCount: Int) { self.entryCount = entryCount }

  deinit { unsafe stash?.deallocate() }

  func begin(_ socket: StreamSocket, _ agreement: StartUp.Agreement, segmentByteCount: Int) {
    self.socket = socket.handle
    self.segmentByteCount = segmentByteCount
    outboundReadDepth = UInt64(agreement.outboundReadDepth)
    mayTransmit = agreement.isInitiator
    if agreement.isInitiator { opening = agreement.readyToReceive }
  }

  /// Keeps the inline bytes of the request at `slot`, and lets it name them there.
  func keep(_ entry: inout SendEntry, slot: Int) {
    let stride = SendEntry.maximumInlineByteCount
    if unsafe stash == nil {
      unsafe stash = .allocate(byteCount: entryCount * stride, alignment: 64)
    }
    let place = unsafe stash! + slot * stride
    let count = entry.request.elements.byteCount
    let (first, second) = entry.request.elements.pieces(0, atMost: count)
    var offset = 0
    for piece in [first, second] where piece.byteCount > 0 {
      unsafe (place + offset).copyMemory(
        from: UnsafeRawPointer(bitPattern: UInt(piece.address))!, byteCount: piece.byteCount)
      offset += piece.byteCount
    }
    entry.request.elements = ScatterGatherList(
      ScatterGatherElement(
        address: UInt64(UInt(bitPattern: place)), byteCount: UInt32(count),
        localKey: LocalKey(rawValue: 0)))
  }
}
