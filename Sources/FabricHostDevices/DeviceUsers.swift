import CFabricLinux
import FabricPlatform

/// Who uses a block device, as far as the kernel tells this process.
public enum DeviceUsers {
  /// In words, one for each use, such as "mounted at /mnt"; empty when no use is known of.
  ///
  /// - Parameter device: a path such as `/dev/loop3`.
  public static func find(_ device: String) -> [String] {
    var status = stat()
    guard unsafe stat(device, &status) == 0 else { return [] }
    let number = "\(major(status.st_rdev)):\(minor(status.st_rdev))"
    var users: [String] = []
    for line in KernelText.lines("/proc/self/mountinfo") {
      let words = line.split(separator: " ")
      if words.count > 4, words[2] == number {
        users.append("mounted at \(KernelText.unescaped(words[4]))")
      }
    }
    for line in KernelText.lines("/proc/swaps") where line.hasPrefix("\(device) ") {
      users.append("used to swap to")
    }
    let name = String(device.split(separator: "/").last ?? "")
    for holder in KernelText.names(in: "/sys/block/\(name)/holders") {
      users.append("held by /dev/\(holder)")
    }
    return users + processes(holding: device)
  }

  /// Processes that have a file open, this one aside; in words, one for each.
  ///
  /// - Parameter exception: another one that does not count.
  public static func processes(holding path: String, but exception: Int32? = nil) -> [String] {
    var found: [String] = []
    let others = ["\(getpid())", exception.map { "\($0)" } ?? ""]
    for process in KernelText.names(in: "/proc") where !others.contains(process) {
      guard process.utf8.allSatisfy({ (48...57).contains($0) }) else { continue }
      let directory = "/proc/\(process)/fd"
      guard
        KernelText.names(in: directory).contains(where: {
          KernelText.link("\(directory)/\($0)") == path
        })
      else { continue }
      found.append("held open by \(words(for: process))")
    }
    return found
  }

  /// What a process is called, and its number.
  static func words(for process: some CustomStringConvertible) -> String {
    let name = KernelFile.text("/proc/\(process)/comm")?.filter { $0 != "\n" } ?? "a program"
    return "\(name) (process \(process))"
  }

  private static func major(_ device: dev_t) -> UInt64 {
    UInt64(device) >> 8 & 0xfff | UInt64(device) >> 32 & ~0xfff
  }

  private static func minor(_ device: dev_t) -> UInt64 {
    UInt64(device) & 0xff | UInt64(device) >> 12 & ~0xff
  }
}

/// What the kernel tells in files and directories of text, of any length.
enum KernelText {
  static func lines(_ path: String) -> [Substring] {
    guard let file = try? Descriptor(result: unsafe fabric_open_existing(path, O_RDONLY)) else {
      return []
    }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    let number = file.rawValue
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes {
        unsafe read(number, $0.baseAddress, $0.count)
      }
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
  }

  /// What a directory holds; nothing when there is none.
  static func names(in directory: String) -> [String] {
    guard let stream = unsafe opendir(directory) else { return [] }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { place in
        unsafe place.withMemoryRebound(to: CChar.self, capacity: 256) {
          unsafe String(cString: $0)
        }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// Writes to such a file. The corresponding C call is `write`.
  static func put(_ text: String, to path: String) throws(Errno) {
    let file = try Descriptor(result: unsafe fabric_open_existing(path, O_WRONLY))
    let number = file.rawValue
    var bytes = Array(text.utf8)
    try Errno.check { unsafe write(number, &bytes, bytes.count) }
  }

  static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe readlink(path, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// Spaces and the like stand in the kernel's tables as `\040`.
  static func unescaped(_ text: Substring) -> String {
    var result: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == 92, rest.count >= 3,
        let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
      {
        result.append(value)
        rest = rest.dropFirst(3)
      } else {
        result.append(byte)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}
