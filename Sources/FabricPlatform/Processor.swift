import CFabricLinux

/// The processors this process may use.
public enum Processor {
  /// How many there are for the calling thread; at least 1.
  public static var availableCount: Int { max(1, Int(fabric_available_cpus())) }

  /// Binds the calling thread to the `index`-th available processor, counted modulo their number.
  public static func bindCallingThread(toAvailable index: Int) throws(Errno) {
    let number = fabric_nth_available_cpu(CInt(index % availableCount))
    guard number >= 0 else { throw Errno.invalidArgument }
    try Errno.check { fabric_set_affinity(number) }
  }
}

/// The user that this process acts for.
public enum CallingUser {
  public static var id: UInt32 { geteuid() }
}

/// The process that started this one.
public enum ParentProcess {
  /// Has the kernel end this process when its parent ends. The corresponding C call is
  /// `prctl(PR_SET_PDEATHSIG)`.
  public static func dieWithIt() { _ = fabric_die_with_parent() }
}
