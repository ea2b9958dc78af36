package import FabricHostDevices
package import FabricPlatform

/// Bytes that a guest and its devices share, sealed as QEMU seals them.
package final class MachineMemory {
  package static let guestBase: UInt64 = 0x1_0000_0000
  package static let userBase: UInt64 = 0x7f00_0000_0000
  package let file: MemoryFile
  package let mapping: Mapping

  package init(byteCount: Int = 4 << 20) throws {
    file = try MemoryFile(name: "guest", byteCount: byteCount)
    mapping = try file.map(.readWrite)
  }

  package var region: RegionDescription {
    RegionDescription(
      guestAddress: Self.guestBase, byteCount: UInt64(mapping.byteCount),
      userAddress: Self.userBase, fileOffset: 0)
  }

  package func place(_ offset: Int) -> UnsafeMutableRawPointer {
    unsafe mapping.bytes.baseAddress! + offset
  }

  package func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    unsafe place(offset).storeBytes(of: value.littleEndian, as: Value.self)
  }

  package func get<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type) -> Value {
    unsafe Value(littleEndian: place(offset).load(as: Value.self))
  }

  package func fill(_ byte: UInt8, at offset: Int, count: Int) {
    unsafe place(offset).initializeMemory(as: UInt8.self, repeating: byte, count: count)
  }

  package func holds(_ byte: UInt8, at offset: Int, count: Int) -> Bool {
    (offset..<offset + count).allSatisfy { get($0, as: UInt8.self) == byte }
  }
}

/// One piece of a request: an offset in the machine's memory.
package struct MachinePiece {
  package var offset: Int
  package var count: Int
  package var isWritable: Bool

  package init(offset: Int, count: Int, isWritable: Bool = false) {
    self.offset = offset
    self.count = count
    self.isWritable = isWritable
  }
}

/// The driver's side of a split queue, as virtio 1.2 describes it.
package final class MachineQueue {
  package let memory: MachineMemory
  package let size: Int
  /// Where the queue's parts begin.
  package let base: Int
  package var hasEventIndex: Bool
  package private(set) var index: UInt16 = 0
  private var seen: UInt16 = 0
  private var free: [Int]
  private var chains: [Int: [Int]] = [:]
  /// Of the available index when the device was asked for the last time.
  private var toldIndex: UInt16 = 0

  package init(_ memory: MachineMemory, size: Int, base: Int, hasEventIndex: Bool = true) {
    self.memory = memory
    self.size = size
    self.base = base
    self.hasEventIndex = hasEventIndex
    free = Array((0..<size).reversed())
  }

  package var available: Int { base + size * 16 }
  package var used: Int { (available + 6 + 2 * size + 3) / 4 * 4 }
  package var byteCount: Int { used + 6 + 8 * size - base }

  package var addresses: QueueAddresses {
    func user(_ offset: Int) -> UInt64 { MachineMemory.userBase + UInt64(offset) }
    return QueueAddresses(descriptors: user(base), used: user(used), available: user(available))
  }

  package func describe(
    _ place: Int, _ piece: MachinePiece, next: Int?, flags: UInt16 = 0, in table: Int? = nil
  ) {
    let offset = (table ?? base) + place * 16
    memory.put(MachineMemory.guestBase &+ UInt64(bitPattern: Int64(piece.offset)), at: offset)
    memory.put(UInt32(piece.count), at: offset + 8)
    memory.put((next == nil ? 0 : 1) | (piece.isWritable ? 2 : 0) | flags, at: offset + 12)
    memory.put(UInt16(next ?? 0), at: offset + 14)
  }

  /// Makes a chain available; returns its head.
  @discardableResult
  package func add(_ pieces: [MachinePiece]) -> Int {
    let places = pieces.map { _ in free.removeLast() }
    for (step, piece) in pieces.enumerated() {
      describe(
        places[step], piece, next: step + 1 < places.count ? places[step + 1] : nil)
    }
    chains[places[0]] = places
    offer(places[0])
    return places[0]
  }

  /// The same by a table at `table`.
  @discardableResult
  package func add(_ pieces: [MachinePiece], table: Int) -> Int {
    for (step, piece) in pieces.enumerated() {
      describe(step, piece, next: step + 1 < pieces.count ? step + 1 : nil, in: table)
    }
    let place = free.removeLast()
    describe(place, MachinePiece(offset: table, count: pieces.count * 16), next: nil, flags: 4)
    chains[place] = [place]
    offer(place)
    return place
  }

  package func offer(_ head: Int) {
    memory.put(UInt16(head), at: available + 4 + 2 * (Int(index) % size))
    index &+= 1
    unsafe SharedWord16(at: memory.place(available + 2)).storeReleasing(index)
  }

  /// Whether the device wants to be kicked for what was made available since it was asked last.
  package var mustKick: Bool {
    let old = toldIndex
    toldIndex = index
    if hasEventIndex {
      let event = memory.get(used + 4 + 8 * size, as: UInt16.self)
      return index &- event &- 1 < index &- old
    }
    return memory.get(used, as: UInt16.self) & 1 == 0
  }

  package var usedIndex: UInt16 { memory.get(used + 2, as: UInt16.self) }

  /// Has the device call when `count` more than were seen have been used.
  package func wantCall(after count: Int = 1) {
    memory.put(seen &+ UInt16(count - 1), at: available + 4 + 2 * size)
  }

  /// What the device has given back since the last time.
  package func reap() -> [(head: Int, byteCount: UInt32)] {
    var ends: [(head: Int, byteCount: UInt32)] = []
    while seen != usedIndex {
      let place = used + 4 + 8 * (Int(seen) % size)
      let head = Int(memory.get(place, as: UInt32.self))
      ends.append((head, memory.get(place + 4, as: UInt32.self)))
      free += (chains.removeValue(forKey: head) ?? []).reversed()
      seen &+= 1
    }
    return ends
  }
}

/// A request as a driver makes it: header, data, status, each at a place of its own.
package struct MachineRequest {
  package var type: UInt32
  package var sector: UInt64 = 0
  package var data: [MachinePiece] = []
  /// Where header and status lie.
  package var place: Int

  package init(type: UInt32, sector: UInt64 = 0, data: [MachinePiece] = [], place: Int) {
    self.type = type
    self.sector = sector
    self.data = data
    self.place = place
  }

  package func pieces(in memory: MachineMemory) -> [MachinePiece] {
    memory.put(type, at: place)
    memory.put(UInt32(0), at: place + 4)
    memory.put(sector, at: place + 8)
    memory.put(UInt8(0xEE), at: place + 16)
    return [MachinePiece(offset: place, count: 16)] + data
      + [MachinePiece(offset: place + 16, count: 1, isWritable: true)]
  }

  package func status(in memory: MachineMemory) -> UInt8 { memory.get(place + 16, as: UInt8.self) }
}
