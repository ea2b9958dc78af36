import CFabricLinux

/// What the kernel tells in small files of text.
public enum KernelFile {
  /// What `path` holds, its first 4096 bytes; nil when it cannot be read.
  public static func text(_ path: String) -> String? {
    guard let file = try? Descriptor(result: unsafe fabric_open_read(path)) else { return nil }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let number = file.rawValue
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe read(number, bytes.baseAddress, bytes.count)
    }
    guard count >= 0 else { return nil }
    return String(decoding: buffer.prefix(count), as: UTF8.self)
  }
}

/// The memory of this machine.
public enum SystemMemory {
  /// What programs can still take before the machine swaps or kills, in bytes, as the kernel
  /// estimates it; nil when it does not say. `MemAvailable` of `/proc/meminfo`.
  public static var availableByteCount: UInt64? {
    let lines = KernelFile.text("/proc/meminfo")?.split(separator: "\n")
    let words = lines?.first { $0.hasPrefix("MemAvailable:") }?.split(separator: " ")
    guard let words, words.count > 1, let kibibytes = UInt64(words[1]) else { return nil }
    return kibibytes << 10
  }
}
