import CFabricLinux

/// The kernel's random bytes, fit for keys. The corresponding C function is `getrandom`.
public enum SystemRandom {
  /// Fills `bytes`. Traps where the kernel has none to give, which it has from its start on.
  @unsafe
  public static func fill(_ bytes: UnsafeMutableRawBufferPointer) {
    var offset = 0
    while offset < bytes.count {
      let count = unsafe fabric_random(bytes.baseAddress! + offset, bytes.count - offset)
      if count < 0 {
        precondition(Errno.current == .interrupted, "the kernel gives no random bytes")
      } else {
        offset += count
      }
    }
  }
}
