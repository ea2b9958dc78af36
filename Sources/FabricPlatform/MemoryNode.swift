import CFabricNUMA

/// Where a machine's memory lies: on large ones each node has memory and processors that are near to each other.
///
/// Everything here is a wish, for speed: what the kernel does not grant stays as it was. Threads: any.
public enum MemoryNode {
  /// Nodes of this machine; 0 or 1 where all memory is equally near, and then no wish changes anything.
  public static let count = Int(fabric_numa_node_count())

  /// The greatest number of one; numbers may be left out.
  private static let last = count > 0 ? Int(numa_max_node()) : -1

  private static func exists(_ node: Int) -> Bool { count > 1 && (0...last).contains(node) }

  /// Has the pages of a range that nobody has touched yet come from `node`, while it has some; from others else.
  ///
  /// - Parameters:
  ///   - address: the first byte, on a page's border.
  ///   - byteCount: whole pages.
  /// - Returns: whether the kernel agreed.
  @discardableResult
  public static func prefer(_ node: Int, for address: UInt64, byteCount: Int) -> Bool {
    guard exists(node) else { return false }
    let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
    return unsafe fabric_numa_prefer(place, byteCount, CInt(node)) == 0
  }

  /// Has the calling thread run on those of its processors that are near to `node`, if there are some.
  ///
  /// - Returns: whether the kernel agreed.
  @discardableResult
  public static func runCallingThread(near node: Int) -> Bool {
    exists(node) && fabric_numa_run_on(CInt(node)) == 0
  }

  /// The node that the page at an address lies on; touches it. nil where the kernel does not say.
  public static func node(of address: UInt64) -> Int? {
    guard count > 0 else { return nil }
    let node = unsafe fabric_numa_node_of(UnsafeMutableRawPointer(bitPattern: UInt(address)))
    return node < 0 ? nil : Int(node)
  }
}
