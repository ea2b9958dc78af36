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

  /// A slot's request has ended: the kernel is told.
  func end(_ index: Int) {
    let (operation, status, byteCount) = requests.end(index)
    let request = kernelRequests[index]
    switch operation {
    case _ where status != .success: request.end(status.errorNumber(of: operation))
    case .read:
      let place = unsafe requests.region.bytes.baseAddress! + index &* Self.elementByteCount
      unsafe request.end(place, byteCount: byteCount)
    case .write: request.endWrite(byteCount: byteCount)
    default: request.end(0)
    }
    freeSlots.give(index)
  }
}
