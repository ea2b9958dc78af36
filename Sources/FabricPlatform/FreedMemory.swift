import CFabricLinux

/// Memory that this process has freed, and the C library keeps for later.
public enum FreedMemory {
  /// Gives whole pages of it back to the system; takes about a millisecond for 10 MiB. The
  /// corresponding C call is `malloc_trim`.
  public static func giveBack() { _ = malloc_trim(0) }
}
