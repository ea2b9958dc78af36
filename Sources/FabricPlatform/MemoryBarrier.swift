import CFabricLinux

/// Barriers that one side pays for so that the other need not.
///
/// A reader that does no more than read, on a path taken a million times, is made visible by the
/// rare side's system call. The corresponding C call is `membarrier`.
public enum MemoryBarrier {
  /// Whether threads of other processes take part in `global()`: processes that called
  /// `registerGlobal()`.
  public static func registerGlobal() throws(Errno) {
    try Errno.check { fabric_membarrier(CInt(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED.rawValue)) }
  }

  /// A full barrier on every running thread of every registered process.
  public static func global() {
    _ = fabric_membarrier(CInt(MEMBARRIER_CMD_GLOBAL_EXPEDITED.rawValue))
  }

  /// Must succeed once before `thisProcess()`.
  public static func registerThisProcess() throws(Errno) {
    try Errno.check {
      fabric_membarrier(CInt(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED.rawValue))
    }
  }

  /// A full barrier on every running thread of this process.
  public static func thisProcess() {
    _ = fabric_membarrier(CInt(MEMBARRIER_CMD_PRIVATE_EXPEDITED.rawValue))
  }
}

/// Keeps the compiler from moving memory accesses across the call; the processor may still.
@inlinable
@inline(__always)
public func compilerBarrier() { cCompilerBarrier() }

@usableFromInline
@inline(__always)
func cCompilerBarrier() { fabric_compiler_barrier() }
