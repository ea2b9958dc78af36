import FabricBounded
import FabricStorage
import FabricVerbs

/// From a request of the kernel's to one of the device's, and back.
extension VolumeFile {
  /// Begins what has landed as a request under way.
  ///
  /// - Parameter dataOffset: of the data in the element.
  func begin(
    _ request: FileRequest, _ operation: BlockOperation, offset: UInt64, byteCount: UInt64,
    dataOffset: Int, flags: BlockFlags = []
  ) {
    let index = landing
    isLandingTaken = true
    kernelRequests[index] = request
    let size = requests.blockByteCount
    let isDone = requests.begin(
      index, operation, block: offset / size, blockCount: byteCount / size,
      dataOffset: index &* Self.elementByteCount &+ dataOffset, flags: flags)
    if isDone { end(index) }
  }
}
