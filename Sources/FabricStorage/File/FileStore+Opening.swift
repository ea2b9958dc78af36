import CFabricLinux
import CFabricURing
import FabricPlatform

/// What opening a file has found out on the way to a store.
struct OpenedFile {
  let path: String
  let metadataPath: String
  let isReadOnly: Bool
  var isNew = false
  var hasNewMetadata = false
  var isDevice = false
  var isDirect = false
  var memoryAlignment = 1
  var byteCount: UInt64 = 0
  var metadata = VolumeMetadata(identifier: .random(), blockByteCount: 4096)
  var accessDescription = ""
}

extension FileStore {
  /// How to open a file.
  public struct Options: Sendable {
    /// The size in bytes of a file that is not there yet; nil: it must exist. An existing file
    /// keeps its size.
    public var byteCountIfMissing: UInt64?
    public var isReadOnly = false
    /// 512 or 4096; nil takes what the volume was made with, else 4096 where the size allows it.
    public var blockByteCount: UInt32?
    /// Takes the space of a new file at once, so that the disk cannot become full under it.
    public var isPreallocated = false
    /// Whether to go past the page cache where the file system allows it.
    public var prefersDirect = true
    /// The file that keeps the volume's identity; nil: the path with `.fabric` appended, for a file
    /// the path that its symbolic links lead to. A block device should name one outside `/dev`,
    /// which does not survive a restart.
    public var metadataPath: String?
    /// How long to wait for the lock. A predecessor that was killed holds it until the kernel has
    /// ended its requests and taken down its rings, which takes some milliseconds at least.
    public var lockPatience: Duration

    public init(
      byteCountIfMissing: UInt64? = nil, isReadOnly: Bool = false, blockByteCount: UInt32? = nil,
      isPreallocated: Bool = false, prefersDirect: Bool = true, metadataPath: String? = nil,
      lockPatience: Duration = .seconds(2)
    ) {
      self.byteCountIfMissing = byteCountIfMissing
      self.isReadOnly = isReadOnly
      self.blockByteCount = blockByteCount
      self.isPreallocated = isPreallocated
      self.prefersDirect = prefersDirect
      self.metadataPath = metadataPath
      self.lockPatience = lockPatience
    }
  }

  /// Opens and locks the file at `path`, or makes it.
  ///
  /// - Throws: every case of `StoreError` but `.ringUnavailable` and `.depthNotSupported`. A file
  ///   made by a call that fails is removed again. (ST-58)
  public static func open(
    path: String, options: Options = Options()
  ) throws(StoreError) -> FileStore {
    if let block = options.blockByteCount, block != 512, block != 4096 {
      throw .blockSizeNotSupported(blockByteCount: block)
    }
    var info = stat()
    if unsafe stat(path, &info) == 0 {
      return try openExisting(path, info, options)
    }
    let error = Errno.current
    guard error == .noSuchFileOrDirectory else { throw .notReadable(path: path, reason: error) }
    guard let byteCount = options.byteCountIfMissing, !options.isReadOnly else {
      throw .missing(path: path)
    }
    return try create(path, byteCount: byteCount, options)
  }

  private static func openExisting(
    _ path: String, _ info: stat, _ options: Options
  ) throws(StoreError) -> FileStore {
    let kind = info.st_mode & mode_t(S_IFMT)
    if kind == mode_t(S_IFDIR) { throw .isDirectory(path: path) }
    guard kind == mode_t(S_IFREG) || kind == mode_t(S_IFBLK) else {
      throw .notFileOrDevice(path: path)
    }
    var opened = OpenedFile(
      path: path,
      metadataPath: options.metadataPath
        // A device's links, unlike its number, keep their meaning.
        ?? (kind == mode_t(S_IFREG) ? FileKind.resolved(path) : path) + ".fabric",
      isReadOnly: options.isReadOnly, isDevice: kind == mode_t(S_IFBLK))
    let mode = options.isReadOnly ? O_RDONLY : O_RDWR | (opened.isDevice ? O_EXCL : 0)
    let number = unsafe fabric_open(path, mode, 0)
    guard number >= 0 else {
      let error = Errno.current
      if error.rawValue == EBUSY { throw .deviceInUse(path: path) }
      if options.isReadOnly { throw .notReadable(path: path, reason: error) }
      throw .notWritable(path: path, reason: error)
    }
    let descriptor = Descriptor(owning: number)
    try lock(descriptor, opened, patience: options.lockPatience)
    opened.byteCount = try size(descriptor, path: path, isDevice: opened.isDevice)
    return try finish(&opened, descriptor, options)
  }

  private static func create(
    _ path: String, byteCount: UInt64, _ options: Options
  ) throws(StoreError) -> FileStore {
    let block = options.blockByteCount ?? (byteCount.isMultiple(of: 4096) ? 4096 : 512)
    guard byteCount > 0 else { throw .empty(path: path) }
    guard byteCount.isMultiple(of: UInt64(block)) else {
      throw .sizeNotWhole(byteCount: byteCount, blockByteCount: block)
    }
    let number = unsafe fabric_open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
    guard number >= 0 else {
      let error = Errno.current
      // Somebody was quicker, or it is a link that leads nowhere.
      if error == .fileExists {
        throw FileKind.isSymbolicLink(path) ? .notFileOrDevice(path: path) : .locked(path: path)
      }
      if error == .noSuchFileOrDirectory { throw .directoryMissing(path: path) }
      if error == .noSpace { throw .noSpace(path: path, byteCount: byteCount) }
      throw .notCreatable(path: path, reason: error)
    }
    let descriptor = Descriptor(owning: number)
    var opened = OpenedFile(
      path: path, metadataPath: options.metadataPath ?? path + ".fabric", isReadOnly: false,
      isNew: true)
    opened.byteCount = byteCount
    do throws(StoreError) {
      if try VolumeMetadata.read(from: opened.metadataPath) != nil {
        throw .metadataWithoutVolume(path: path, metadataPath: opened.metadataPath)
      }
      try lock(descriptor, opened, patience: options.lockPatience)
      try extend(descriptor, opened, isPreallocated: options.isPreallocated)
      return try finish(&opened, descriptor, options)
    } catch {
      _ = unsafe unlink(path)
      throw error
    }
  }

  private static func extend(
    _ descriptor: borrowing Descriptor, _ opened: OpenedFile, isPreallocated: Bool
  ) throws(StoreError) {
    let length = off_t(clamping: opened.byteCount)
    var result = ftruncate(descriptor.rawValue, length)
    if result == 0, isPreallocated { result = fallocate(descriptor.rawValue, 0, 0, length) }
    if result == 0 { return }
    let error = Errno.current
    if error == .noSpace { throw .noSpace(path: opened.path, byteCount: opened.byteCount) }
    if error == .fileTooLarge {
      throw .fileTooLarge(path: opened.path, byteCount: opened.byteCount)
    }
    throw .systemCall(name: "fallocate", path: opened.path, reason: error)
  }

  /// Readers share the file with each other; a writer is alone. (ST-51)
  private static func lock(
    _ descriptor: borrowing Descriptor, _ opened: OpenedFile, patience: Duration
  ) throws(StoreError) {
    let deadline = MonotonicTime.now + patience
    while true {
      let result =
        opened.isReadOnly
        ? fabric_lock_whole_file_shared(descriptor.rawValue)
        : fabric_lock_whole_file(descriptor.rawValue)
      if result == 0 { return }
      let error = Errno.current
      guard error == .wouldBlock || error == .permissionDenied else {
        throw .systemCall(name: "fcntl(F_OFD_SETLK)", path: opened.path, reason: error)
      }
      if MonotonicTime.now >= deadline { throw .locked(path: opened.path) }
      SystemThread.sleep(milliseconds: 2)
    }
  }

  static func size(
    _ descriptor: borrowing Descriptor, path: String, isDevice: Bool
  ) throws(StoreError) -> UInt64 {
    var byteCount: UInt64 = 0
    if isDevice {
      let result = unsafe fabric_block_device_size(descriptor.rawValue, &byteCount)
      guard result == 0 else {
        throw .systemCall(name: "BLKGETSIZE64", path: path, reason: .current)
      }
    } else {
      var info = stat()
      guard unsafe fstat(descriptor.rawValue, &info) == 0 else {
        throw .systemCall(name: "fstat", path: path, reason: .current)
      }
      byteCount = UInt64(info.st_size)
    }
    guard byteCount > 0 else { throw .empty(path: path) }
    return byteCount
  }

  private static func finish(
    _ opened: inout OpenedFile, _ descriptor: consuming Descriptor, _ options: Options
  ) throws(StoreError) -> FileStore {
    let recorded = try VolumeMetadata.read(from: opened.metadataPath)
    let fallback: UInt32 = opened.byteCount.isMultiple(of: 4096) ? 4096 : 512
    let block = recorded?.blockByteCount ?? options.blockByteCount ?? fallback
    if let requested = options.blockByteCount, requested != block {
      throw .blockSizeDiffers(path: opened.path, recorded: block, requested: requested)
    }
    guard opened.byteCount.isMultiple(of: UInt64(block)) else {
      throw .sizeNotMultiple(
        path: opened.path, byteCount: opened.byteCount, blockByteCount: block)
    }
    if let recorded {
      opened.metadata = recorded
    } else {
      opened.metadata = VolumeMetadata(identifier: .random(), blockByteCount: block)
      // A volume that may not be written gets an identity for as long as it is open.
      if !opened.isReadOnly {
        opened.hasNewMetadata = true
      }
    }
    do throws(StoreError) {
      if opened.hasNewMetadata { try opened.metadata.write(to: opened.metadataPath) }
      chooseAccess(&opened, descriptor, prefersDirect: options.prefersDirect)
      return try FileStore(opened: opened, descriptor: descriptor)
    } catch {
      if opened.hasNewMetadata { _ = unsafe unlink(opened.metadataPath) }
      throw error
    }
  }

  /// Goes past the page cache when the file system takes it at the volume's block size.
  private static func chooseAccess(
    _ opened: inout OpenedFile, _ descriptor: borrowing Descriptor, prefersDirect: Bool
  ) {
    let number = descriptor.rawValue
    let kind = opened.isDevice ? "block device" : "file"
    let block = opened.metadata.blockByteCount
    var memory: UInt32 = 0
    var offset: UInt32 = 0
    _ = unsafe fabric_direct_alignment(number, &memory, &offset)
    var reason = "as asked"
    if prefersDirect {
      if offset > block {
        reason = "direct I/O needs blocks of \(offset) bytes, the volume has \(block)"
      } else if fabric_set_direct(number, true) != 0 {
        reason = "the file system refuses direct I/O"
      } else if let failure = probe(number, byteCount: Int(block)) {
        reason = "a direct read was answered with \"\(failure)\""
        _ = fabric_set_direct(number, false)
      } else {
        opened.isDirect = true
        // Where the kernel does not say, a page is always enough.
        opened.memoryAlignment = memory > 0 ? Int(memory) : pageByteCount
        opened.accessDescription = "\(kind), direct I/O, io_uring"
        return
      }
    }
    opened.accessDescription = "\(kind), through the page cache (\(reason)), io_uring"
  }

  /// Reads the first block; nil when that works.
  private static func probe(_ number: CInt, byteCount: Int) -> Errno? {
    guard let page = try? Mapping.anonymous(byteCount: pageByteCount) else { return .noMemory }
    let result = unsafe pread(number, page.bytes.baseAddress, byteCount, 0)
    // Only a refusal of the alignment speaks against direct I/O; a bad first block does not.
    if result >= 0 { return nil }
    let error = Errno.current
    return error == .invalidArgument || error == .notSupported ? error : nil
  }
}
