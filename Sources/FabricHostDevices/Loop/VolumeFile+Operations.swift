import CFabricFUSE
import CFabricLinux
import FabricBounded
import FabricHostDriver
import FabricStorage
import FabricVerbs

/// What the kernel may ask of the file system, in libfuse's terms. What is not in the table libfuse
/// answers by itself: with success where there is nothing to do, else with ENOSYS.
extension VolumeFile {
  static let fileNumber: fuse_ino_t = 2
  /// How long the kernel may go by what it was told of names and sizes, in seconds: of a size that changes it is told.
  private static let validity = 86400.0

  static var operations: fuse_lowlevel_ops {
    var table = fuse_lowlevel_ops()
    unsafe table.`init` = { user, connection in
      unsafe VolumeFile.agree(connection!, depth: VolumeFile.at(user!).kernelRequests.count)
    }
    unsafe table.lookup = { request, parent, name in
      unsafe VolumeFile.of(request).lookUp(FileRequest(request), parent, String(cString: name!))
    }
    unsafe table.getattr = { request, number, _ in
      unsafe VolumeFile.of(request).tellAttributes(FileRequest(request), number)
    }
    unsafe table.`open` = { request, number, file in
      unsafe VolumeFile.of(request).openFile(FileRequest(request), number, file!)
    }
    unsafe table.`read` = { request, _, count, offset, _ in
      unsafe VolumeFile.of(request).readFile(FileRequest(request), count, offset)
    }
    unsafe table.`write` = { request, _, bytes, count, offset, file in
      let flags = unsafe fabric_fuse_file_flags(file)
      unsafe VolumeFile.of(request).writeFile(FileRequest(request), bytes!, count, offset, flags)
    }
    unsafe table.`fsync` = { request, _, _, _ in
      unsafe VolumeFile.of(request).begin(
        FileRequest(request), .flush, offset: 0, byteCount: 0, dataOffset: 0)
    }
    unsafe table.`fallocate` = { request, _, mode, offset, count, _ in
      unsafe VolumeFile.of(request).allocate(FileRequest(request), mode, offset, count)
    }
    unsafe table.`ioctl` = { request, number, command, _, _, flags, bytes, count, room in
      unsafe VolumeFile.of(request).control(
        FileRequest(request), number, command,
        UnsafeRawBufferPointer(start: bytes, count: count), room)
    }
    unsafe table.`statfs` = { request, _ in
      unsafe VolumeFile.of(request).tellSpace(FileRequest(request))
    }
    unsafe table.`readdir` = { request, _, limit, offset, _ in
      unsafe VolumeFile.of(request).list(FileRequest(request), limit, offset)
    }
    return table
  }

  /// Whose request it is. The session, and so the request, goes before the file does.
  private static func of(_ request: fuse_req_t?) -> VolumeFile {
    unsafe at(fuse_req_userdata(request)!)
  }

  private static func at(_ user: UnsafeMutableRawPointer) -> VolumeFile {
    unsafe Unmanaged<VolumeFile>.fromOpaque(user).takeUnretainedValue()
  }

  private static func agree(_ connection: UnsafeMutablePointer<fuse_conn_info>, depth: Int) {
    let offered = unsafe connection.pointee.capable
    unsafe connection.pointee.want |= offered & fabric_fuse_cap_async_dio
    // Data comes by copy, into registered memory.
    unsafe connection.pointee.want &= ~fabric_fuse_caps_unused
    unsafe connection.pointee.max_write = UInt32(transferByteCount)
    unsafe connection.pointee.max_readahead = 0
    // Direct I/O in the background is what a loop device does: as much of it as there is memory for.
    unsafe connection.pointee.max_background = UInt32(depth)
    unsafe connection.pointee.congestion_threshold = UInt32(depth)
  }

  // MARK: Names and attributes

  private func attributes(_ number: fuse_ino_t) -> stat {
    var attributes = stat()
    attributes.st_ino = UInt(number)
    attributes.st_blksize = Int(requests.blockByteCount)
    if number == Self.fileNumber {
      attributes.st_mode = UInt32(S_IFREG) | (isReadOnly ? 0o400 : 0o600)
      attributes.st_nlink = 1
      attributes.st_size = Int(info.byteCount)
      attributes.st_blocks = Int(info.byteCount / 512)
    } else {
      attributes.st_mode = UInt32(S_IFDIR) | 0o500
      attributes.st_nlink = 2
    }
    return attributes
  }

  private func lookUp(_ request: FileRequest, _ parent: fuse_ino_t, _ name: String) {
    guard parent == 1, name == Self.name else { return refuse(request, ENOENT) }
    var entry = fuse_entry_param()
    entry.ino = Self.fileNumber
    entry.attr = attributes(Self.fileNumber)
    entry.attr_timeout = Self.validity
    entry.entry_timeout = Self.validity
    request.end(entry: &entry)
  }

  private func tellAttributes(_ request: FileRequest, _ number: fuse_ino_t) {
    guard number == 1 || number == Self.fileNumber else { return refuse(request, ENOENT) }
    var attributes = attributes(number)
    request.end(attributes: &attributes, validity: Self.validity)
  }

  private func tellSpace(_ request: FileRequest) {
    var space = statvfs()
    // A loop device takes the size of a block for that of a discard.
    space.f_bsize = UInt(requests.blockByteCount)
    space.f_frsize = UInt(requests.blockByteCount)
    space.f_blocks = UInt(info.blockCount)
    space.f_files = 1
    space.f_namemax = 255
    request.end(space: &space)
  }

  private func list(_ request: FileRequest, _ limit: Int, _ offset: off_t) {
    guard offset == 0 else {
      return request.endEmpty()
    }
    var attributes = attributes(Self.fileNumber)
    request.end(name: Self.name, attributes: &attributes, limit: limit)
  }

  private func openFile(
    _ request: FileRequest, _ number: fuse_ino_t, _ file: UnsafeMutablePointer<fuse_file_info>
  ) {
    let isToRead = unsafe fabric_fuse_file_flags(file) & O_ACCMODE == O_RDONLY
    guard !isReadOnly || isToRead else { return refuse(request, EROFS) }
    unsafe request.endOpen(file)
  }

  // MARK: Data

  /// Blocks are whole or not at all: EINVAL for others. (HD-13)
  private func areWhole(_ offset: off_t, _ count: UInt64) -> Bool {
    offset >= 0 && UInt64(offset) % requests.blockByteCount == 0
      && count % requests.blockByteCount == 0
  }

  private func readFile(_ request: FileRequest, _ count: Int, _ offset: off_t) {
    guard areWhole(offset, UInt64(count)), count <= Self.transferByteCount else {
      return refuse(request, EINVAL)
    }
    // At the end a read is short.
    let left = info.byteCount - min(info.byteCount, UInt64(offset))
    let byteCount = min(UInt64(count), left)
    guard byteCount > 0 else {
      return request.endEmpty()
    }
    begin(
      request, .read, offset: UInt64(offset), byteCount: byteCount,
      dataOffset: 0)
  }

  private func writeFile(
    _ request: FileRequest, _ bytes: UnsafePointer<CChar>, _ count: Int, _ offset: off_t,
    _ flags: CInt
  ) {
    guard !isReadOnly else { return refuse(request, EROFS) }
    guard areWhole(offset, UInt64(count)) else { return refuse(request, EINVAL) }
    guard isInside(offset, UInt64(count)) else { return refuse(request, ENOSPC) }
    guard count > 0 else {
      return request.endWrite(byteCount: 0)
    }
    // The data is sent to the unit from where it landed.
    let element = unsafe requests.region.bytes.baseAddress! + landing &* Self.elementByteCount
    let dataOffset = unsafe UnsafeRawPointer(bytes) - UnsafeRawPointer(element)
    precondition(
      dataOffset > 0 && dataOffset &+ count <= Self.elementByteCount,
      "libfuse hands on the bytes where they landed")
    begin(
      request, .write, offset: UInt64(offset), byteCount: UInt64(count),
      dataOffset: dataOffset, flags: flags & O_DSYNC != 0 ? .forceUnitAccess : [])
  }

  /// A hole and a range of zeroes both read as zeroes afterwards: a loop device punches a hole where
  /// it was asked to write zeroes, too, so that a mere deallocation, which a unit may not carry out,
  /// would not do. (HD-15)
  private func allocate(_ request: FileRequest, _ mode: CInt, _ offset: off_t, _ count: off_t) {
    guard !isReadOnly else { return refuse(request, EROFS) }
    let kind = mode & ~fabric_falloc_keep_size
    guard kind == fabric_falloc_punch_hole || kind == fabric_falloc_zero_range else {
      return refuse(request, EOPNOTSUPP)
    }
    guard count > 0, areWhole(offset, UInt64(count)) else { return refuse(request, EINVAL) }
    guard isInside(offset, UInt64(count)) else { return refuse(request, ENOSPC) }
    begin(
      request, .writeZeroes, offset: UInt64(offset),
      byteCount: UInt64(count), dataOffset: 0)
  }

  private func isInside(_ offset: off_t, _ count: UInt64) -> Bool {
    UInt64(offset) <= info.byteCount && count <= info.byteCount - UInt64(offset)
  }

  private func refuse(_ request: FileRequest, _ number: CInt) {
    if number != ENOENT { requests.noteRefusal() }
    request.end(number)
  }
}
