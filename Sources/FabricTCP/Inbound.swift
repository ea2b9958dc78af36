import FabricBounded
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire

/// What the receiving side of a queue pair keeps, under the receive lock.
@safe
final class Inbound {
  /// An RDMA read of this side whose response is expected.
  struct Read: BitwiseCopyable {
    let elements: ScatterGatherList
    let key: RemoteKey
    let offset: UInt64
  }

  /// There once the start-up is over; the queue pair keeps it open.
  var socket: StreamSocket.Handle?
  /// Bytes of the stream that cannot be used yet: the beginning of an FPDU, or all that came behind
  /// a message that waits for a receive.
  private(set) var kept: UnsafeMutableRawBufferPointer
  private(set) var keptCount = 0
  /// So many must be there before looking again.
  private(set) var neededCount = 0
  /// A message waits for a receive.
  var isStalled = false
  /// The receive that the send under way goes to.
  var current: ReceiveRequest?
  var reads = RingQueue<Read>()
  /// Those in `reads`: asked each time that bytes have come.
  var readCount: UInt64 = 0
  /// The other side may send only once this side's first frame has come.
  var awaitsFirstFrame = false
  var answersHeardOf: UInt64 = 0

  init() { unsafe kept = UnsafeMutableRawBufferPointer(start: nil, count: 0) }

  deinit { unsafe kept.deallocate() }

  func begin(
    _ socket: StreamSocket, _ agreement: StartUp.Agreement, early: [UInt8]
  ) {
    self.socket = socket.handle
    awaitsFirstFrame = !agreement.isInitiator
    guard !early.isEmpty else { return }
    unsafe early.withUnsafeBytes { raw in
      keep(unsafe WireView(raw), until: raw.count)
    }
  }

  /// Sets bytes aside until `count` are there.
  func keep(_ bytes: WireView, until count: Int) {
    let capacity = max(count, bytes.byteCount)
    if unsafe kept.count < capacity {
      let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
      unsafe larger.copyMemory(from: bytes.rawBytes)
      unsafe kept.deallocate()
      unsafe kept = larger
    } else if bytes.byteCount > 0 {
      unsafe kept.copyMemory(from: bytes.rawBytes)
    }
    keptCount = bytes.byteCount
    neededCount = count
  }

  /// More has come behind what is kept.
  func keptMore(_ count: Int) { keptCount += count }

  /// What is kept goes back into use.
  func forgetKept() {
    keptCount = 0
    neededCount = 0
    // A long FPDU's memory goes again, so that an idle connection costs little.
    if unsafe kept.count > 4096 {
      unsafe kept.deallocate()
      unsafe kept = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    }
  }
}

extension StreamReceiver.Options {
  /// What the start-up has agreed on.
  init(_ agreement: StartUp.Agreement, _ options: TCPOptions) {
    self.init()
    hasMarkers = agreement.receivesMarkers
    hasChecksums = agreement.usesChecksums
    inboundReadDepth = Int(agreement.inboundReadDepth)
    takesImmediate = options.hasImmediateData
  }
}
