import CFabricFUSE
import CFabricLinux
import FabricBounded
import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricStorage
import FabricVerbs

/// A file system of FUSE with one file, the volume: what the kernel asks of the file is asked of the
/// unit.
///
/// What is read from `/dev/fuse` lands in registered memory, so that what is written is sent to the
/// unit from where it landed; what is read from the unit lands there, too. When all of that memory is
/// in use, or the queue takes no more, nothing is read from `/dev/fuse` until something has ended:
/// the kernel keeps what waits. (HD-10, HD-11)
///
/// Threads: confined to the thread that runs the queue's service. Nothing of ours is allocated per
/// request.
@safe
final class VolumeFile: KernelQueue, ProgressSource {
  /// The file's name in the file system.
  static let name = "volume"
  /// The most bytes that the kernel reads or writes in one request.
  static let transferByteCount = 1 << 20
  /// And room for what comes before the bytes of a write.
  static let elementByteCount = transferByteCount + 4096
  /// What one round takes, so that completions come in between.
  private static let batchLimit = 32
  /// While nothing came, how many rounds look at `/dev/fuse` once: a look is a system call.
  private static let roundsForLook = 8

  private(set) var info: RemoteVolumeInfo
  let isReadOnly: Bool
  /// What each slot's request is to the kernel.
  let kernelRequests: FixedTable<FileRequest>
  let freeSlots: IndexPool
  /// The slot whose memory takes the next request; -1: none.
  var landing = -1
  /// What landed has become a request under way.
  var isLandingTaken = false

  /// Of `/dev/fuse`; the session closes it.
  private let device: CInt
  private var session: OpaquePointer?
  /// Watches `device` while requests can be taken.
  private let poller: Poller
  private var isWatching = false
  private var mustLook = true
  private var roundCount = 0
  /// The kernel has ended the connection.
  private var hasEnded = false
  /// Told once when the kernel has ended the connection, and of requests that failed.
  private let tell: (HostVolumeEvent) -> Void

  /// - Parameters:
  ///   - device: of `/dev/fuse`, with a file system mounted.
  ///   - depth: how many requests of the kernel's are under way at most.
  ///   - tell: told when the file system has gone without `close`, and of requests that failed.
  init(
    _ queue: RemoteVolumeQueue, info: RemoteVolumeInfo, device: consuming Descriptor,
    isReadOnly: Bool, depth: Int, tell: @escaping (HostVolumeEvent) -> Void
  ) throws(HostDeviceError) {
    self.info = info
    self.isReadOnly = isReadOnly
    self.tell = tell
    kernelRequests = FixedTable(repeating: .none, count: depth)
    freeSlots = IndexPool(capacity: depth)
    poller = try HostDeviceError.doing("expected a descriptor to wait on") { () throws(Errno) in
      try Poller()
    }
    self.device = device.rawValue
    super.init(
      try DeviceRequests(
        queue, info: info, depth: depth, byteCount: depth * Self.elementByteCount, number: 0,
        tell: tell))
    _ = device.release()
    var operations = Self.operations
    let user = unsafe Unmanaged.passUnretained(self).toOpaque()
    guard let made = unsafe fabric_fuse_session(&operations, user) else {
      _ = CFabricLinux.close(self.device)
      throw .missing("expected libfuse to make a session, got none; see the lines before")
    }
    unsafe session = made
    guard unsafe fabric_fuse_adopt(made, self.device) == 0 else {
      throw .missing("expected libfuse 3.3 or later, which takes a descriptor of /dev/fuse")
    }
  }

  /// The volume has grown: the kernel asks for the file's size anew.
  func grow(to info: RemoteVolumeInfo) {
    self.info = info
    guard let session = unsafe session else { return }
    // Of the attributes only, not of what is cached: nothing is.
    _ = unsafe fuse_lowlevel_notify_inval_inode(session, Self.fileNumber, -1, 0)
  }

  /// Ends the file system.
  override func close() {
    hasEnded = true
    guard let session = unsafe session else { return }
    unsafe self.session = nil
    // Its requests have been answered: the queue is closed.
    unsafe fuse_session_destroy(session)
  }

  // MARK: Rounds

  func progress() -> Int {
    roundCount &+= 1
    guard mustLook || roundCount & (Self.roundsForLook - 1) == 0 else { return 0 }
    var count = 0
    while count < Self.batchLimit, canTake, takeRequest() { count &+= 1 }
    mustLook = count > 0
    if count > 0 { requests.queue.flushSubmissions() }
    return count
  }

  /// Whether a request that came now would find memory and its turn.
  private var canTake: Bool {
    !hasEnded && !requests.areWaiting && (landing >= 0 || freeSlots.count > 0)
  }

  /// Reads one request and begins it. False when there is none.
  private func takeRequest() -> Bool {
    if landing < 0, let slot = freeSlots.take() { landing = slot }
    let place = unsafe requests.region.bytes.baseAddress! + landing &* Self.elementByteCount
    let count = unsafe read(device, place, Self.elementByteCount)
    guard count > 0 else { return isAnotherThere(after: Errno.current) }
    isLandingTaken = false
    unsafe fabric_fuse_process(session, place, count)
    if isLandingTaken { landing = -1 }
    return true
  }

  private func isAnotherThere(after error: Errno) -> Bool {
    switch error {
    // A request that was taken back is told by ENOENT.
    case .interrupted, .noSuchFileOrDirectory: return true
    case .wouldBlock: return false
    default:
      hasEnded = true
      tell(.ended("the kernel ended the file system: \(error)"))
      return false
    }
  }

  var descriptor: CInt? { poller.descriptor.rawValue }

  /// What cannot be taken must not wake anybody.
  func arm() {
    mustLook = true
    guard canTake != isWatching else { return }
    if isWatching {
      poller.remove(device)
      isWatching = false
    } else {
      isWatching = (try? poller.add(device, tag: 0)) != nil
    }
  }

  func disarm() { mustLook = true }
  var nextDeadline: MonotonicTime? { nil }

  // MARK: Ends

  override func end(_ index: Int) {
    let (operation, status, byteCount) = requests.end(index)
    let request = kernelRequests[index]
    switch operation {
    case _ where status != .success: request.end(status.errorNumber(of: operation))
    case .read:
      let place = unsafe requests.region.bytes.baseAddress! + index &* Self.elementByteCount
      unsafe request.end(place, byteCount: byteCount)
    case .write: request.endWrite(byteCount: byteCount)
    default: request.end(0)
    }
    freeSlots.give(index)
  }

  override func finishBatch() {
    super.finishBatch()
    mustLook = true
  }
}
