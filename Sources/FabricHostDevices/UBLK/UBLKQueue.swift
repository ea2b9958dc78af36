import CFabricUBLK
import FabricBounded
import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricRing
import FabricStorage
import FabricVerbs

/// A queue of a device of the kernel's user-space block driver.
///
/// Each tag of the kernel's has a piece of registered memory of its own, to which the kernel
/// copies what is written and from which it copies what was read. A request that the unit's queue
/// has no room for waits for its turn; its tag is not the kernel's meanwhile. (HD-62, HD-63)
///
/// Threads: confined to the thread that runs the queue's service. Nothing is allocated per request.
@safe
final class UBLKQueue: KernelQueue, ProgressSource {
  /// The most bytes that the kernel reads or writes in one request.
  static let transferByteCount = 1 << 20
  static let sectorByteCount: UInt64 = 512

  let isReadOnly: Bool
  private let depth: Int
  /// Each entry fetches a request for a tag, after it has told how the last one of that tag ended.
  private let ring: Ring
  private let number: UInt16
  private let isEncoded: Bool
  private let descriptions: UBLKDescriptions

  /// - Parameters:
  ///   - device: of `/dev/ublkcN`, open in this process.
  ///   - depth: how many tags the kernel has.
  init(
    _ queue: RemoteVolumeQueue, info: RemoteVolumeInfo, device: CInt, number: Int, depth: Int,
    isReadOnly: Bool, isEncoded: Bool, tell: @escaping (HostVolumeEvent) -> Void
  ) throws(HostDeviceError) {
    self.isReadOnly = isReadOnly
    self.depth = depth
    descriptions = try UBLKDescriptions(device: device, queue: number, depth: depth)
    self.number = UInt16(number)
    self.isEncoded = isEncoded
    ring = try HostDeviceError.doing("expected an io_uring for the device's queue") {
      () throws(Errno) in
      try Ring(entryCount: depth, file: device)
    }
    super.init(
      try DeviceRequests(
        queue, info: info, depth: depth, byteCount: depth * Self.transferByteCount,
        number: number, tell: tell))
  }

  /// Fetches a request for each tag: when all queues have, the driver may start the device.
  func start() {
    ring.activate()
    for tag in 0..<depth { put(tag, commits: false) }
    ring.submit()
  }

  /// Puts the fetching of a request for a tag into the ring, behind the last one's end where there is one.
  private func put(_ tag: Int, commits: Bool, result: Int32 = 0) {
    let isDone = unsafe fabric_ublk_fetch(
      ring.entries, isEncoded, commits, number, UInt16(tag), result,
      UInt64(UInt(bitPattern: requests.region.bytes.baseAddress! + tag &* Self.transferByteCount)))
    precondition(isDone, "more entries than tags")
  }

  // MARK: Rounds

  func progress() -> Int {
    guard ring.hasCompletions() else { return 0 }
    let count = ring.take()
    for index in 0..<count {
      let (tag, result) = ring.completion(at: index)
      // Others mean that the device stops: the tag comes no more.
      if result == fabric_ublk_ok { begin(Int(tag)) }
    }
    requests.queue.flushSubmissions()
    ring.submit()
    return count
  }

  var descriptor: CInt? { ring.descriptor }
  func arm() { if !ring.arm() { ring.signal() } }
  func disarm() { ring.disarm() }
  var nextDeadline: MonotonicTime? { nil }

  // MARK: Requests

  private func begin(_ tag: Int) {
    let asked = descriptions[tag]
    let start = asked.start_sector &* Self.sectorByteCount
    let byteCount = UInt64(asked.nr_sectors) &* Self.sectorByteCount
    let size = requests.blockByteCount
    let operation: BlockOperation
    var flags: BlockFlags = []
    switch asked.op_flags & fabric_ublk_op_mask {
    case fabric_ublk_read: operation = .read
    case fabric_ublk_write:
      operation = .write
      if asked.op_flags & fabric_ublk_force_unit_access != 0 { flags = .forceUnitAccess }
    case fabric_ublk_flush: operation = .flush
    // What was discarded reads as zeroes, as with the loop end. (HD-15)
    case fabric_ublk_discard, fabric_ublk_write_zeroes: operation = .writeZeroes
    default: return refuse(tag, EOPNOTSUPP)
    }
    if operation != .flush {
      guard start % size == 0, byteCount % size == 0, byteCount > 0,
        !operation.movesData || byteCount <= UInt64(Self.transferByteCount)
      else { return refuse(tag, EINVAL) }
    }
    guard !isReadOnly || !operation.isModifying else { return refuse(tag, EROFS) }
    let isDone = requests.begin(
      tag, operation, block: start / size, blockCount: byteCount / size,
      dataOffset: tag &* Self.transferByteCount, flags: flags)
    if isDone { end(tag) }
  }

  private func refuse(_ tag: Int, _ number: CInt) {
    requests.noteRefusal()
    put(tag, commits: true, result: -number)
  }

  // MARK: Ends

  override func finishBatch() {
    super.finishBatch()
    ring.submit()
  }

  override func end(_ tag: Int) {
    let (operation, status, byteCount) = requests.end(tag)
    let result = status == .success ? Int32(byteCount) : -status.errorNumber(of: operation)
    put(tag, commits: true, result: result)
  }
}

/// What the driver says of the requests of a queue's tags, in memory that it shares.
@safe
final class UBLKDescriptions {
  private let address: UInt64
  private let byteCount: Int
  private let depth: Int

  init(device: CInt, queue: Int, depth: Int) throws(HostDeviceError) {
    self.depth = depth
    let page = sysconf(CInt(_SC_PAGESIZE))
    let used = depth * MemoryLayout<ublksrv_io_desc>.stride
    byteCount = (used + page - 1) / page * page
    address = fabric_ublk_map(device, UInt32(queue), byteCount)
    guard address != 0 else {
      throw .system(.current, doing: "expected to map the queue of the device")
    }
  }

  deinit { fabric_ublk_unmap(address, byteCount) }

  subscript(tag: Int) -> ublksrv_io_desc {
    precondition(tag >= 0 && tag < depth, "a tag of the queue's")
    return unsafe UnsafePointer<ublksrv_io_desc>(bitPattern: UInt(address))![tag]
  }
}
