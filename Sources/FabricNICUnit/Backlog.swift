import FabricBounded
import FabricMessaging
import FabricNIC
import FabricWire

/// Messages of a host's whose frames have a receiver without room, in order. What has no buffer is copied here.
/// Confined to one thread; nothing is allocated once it is made.
@safe
final class Backlog {
  /// As many as may come before a host learns that it gets no more credit.
  private static let capacity = 512
  /// The longest message without a buffer.
  private static let textByteCount = 256

  private struct Entry: BitwiseCopyable {
    var address: UInt64 = 0
    var byteCount = 0
    var start = 0
    /// Of the peer's buffers; -1: the frames are in `texts`.
    var buffer = -1
  }

  private let entries = FixedTable<Entry>(repeating: Entry(), count: Backlog.capacity)
  private let order = IndexQueue(capacity: Backlog.capacity)
  private let free = IndexPool(capacity: Backlog.capacity)
  private lazy var texts = FixedTable<UInt8>(
    repeating: 0, count: Backlog.capacity * Backlog.textByteCount)

  var isEmpty: Bool { order.isEmpty }

  /// Keeps a message, of which `start` bytes of frames are done with; false when there is no room.
  func append(_ message: IncomingMessage, from start: Int) -> Bool {
    let view = message.frames
    guard message.buffer != nil || view.byteCount <= Self.textByteCount, let index = free.take()
    else { return false }
    var entry = Entry(byteCount: view.byteCount, start: start)
    if let buffer = message.buffer {
      entry.buffer = Int(buffer.id)
      entry.address = buffer.address
    } else {
      let place = unsafe texts.address + index * Self.textByteCount
      unsafe WireBuffer(UnsafeMutableRawPointer(place), byteCount: Self.textByteCount)
        .copy(view, at: 0)
      entry.address = UInt64(UInt(bitPattern: place))
    }
    entries[index] = entry
    order.push(index)
    return true
  }

  /// The oldest message's frames, and how much of them is done with.
  var first: (view: WireView, start: Int)? {
    guard let index = order.first else { return nil }
    let entry = entries[index]
    return (WireView(address: entry.address, byteCount: entry.byteCount), entry.start)
  }

  var firstStart: Int {
    get { order.first.map { entries[$0].start } ?? 0 }
    set { if let index = order.first { entries[index].start = newValue } }
  }

  /// Forgets the oldest one, and returns the number of its buffer.
  func pop() -> UInt16? {
    guard let index = order.pop() else { return nil }
    free.give(index)
    return entries[index].buffer >= 0 ? UInt16(entries[index].buffer) : nil
  }

  func removeAll() {
    while pop() != nil || !order.isEmpty {}
  }
}

extension IncomingMessage {
  /// The records of a message of frames, where they are.
  var frames: WireView {
    buffer.map { WireView(address: $0.address, byteCount: $0.byteCount) } ?? payload
  }
}

extension WireView {
  /// Of memory that the channel, or the caller, keeps.
  init(address: UInt64, byteCount: Int) {
    let place = unsafe UnsafeRawPointer(bitPattern: UInt(address))
    unsafe self.init(place!, byteCount: byteCount)
  }
}
