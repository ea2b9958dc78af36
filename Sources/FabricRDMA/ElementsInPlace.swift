import CFabricVerbs
import FabricVerbs

/// A request's elements as the library's, where they lie: both have one layout, so nothing is copied.
enum ElementsInPlace {
  @inline(__always)
  static func of(_ request: UnsafePointer<SendRequest>) -> UnsafeMutablePointer<ibv_sge> {
    unsafe seen(UnsafeRawPointer(request) + MemoryLayout<SendRequest>.offset(of: \.elements)!)
  }

  @inline(__always)
  static func of(_ request: UnsafePointer<ReceiveRequest>) -> UnsafeMutablePointer<ibv_sge> {
    unsafe seen(UnsafeRawPointer(request) + MemoryLayout<ReceiveRequest>.offset(of: \.elements)!)
  }

  /// The library has no word for what it only reads.
  @inline(__always)
  private static func seen(_ place: UnsafeRawPointer) -> UnsafeMutablePointer<ibv_sge> {
    unsafe UnsafeMutableRawPointer(mutating: place).assumingMemoryBound(to: ibv_sge.self)
  }

  /// Traps where the layouts differ; asked once for each queue pair.
  static func check() {
    typealias Element = ScatterGatherElement
    precondition(
      MemoryLayout<Element>.stride == MemoryLayout<ibv_sge>.stride
        && MemoryLayout<Element>.offset(of: \.address) == MemoryLayout<ibv_sge>.offset(of: \.addr)
        && MemoryLayout<Element>.offset(of: \.byteCount)
          == MemoryLayout<ibv_sge>.offset(of: \.length)
        && MemoryLayout<Element>.offset(of: \.localKey)
          == MemoryLayout<ibv_sge>.offset(of: \.lkey)
        && MemoryLayout<LocalKey>.size == MemoryLayout<UInt32>.size
        && MemoryLayout<ScatterGatherList>.offset(of: \.first) == 0
        && MemoryLayout<ScatterGatherList>.offset(of: \.second) == MemoryLayout<Element>.stride,
      "elements lie otherwise than the library's")
  }
}
