import FabricStorage

/// One of the queues by which the kernel asks for a device's blocks: what it asks is asked of the unit.
///
/// Each end has its own: they differ in how the kernel asks and is answered. All are sources of
/// progress, too. Threads: confined to the thread that runs the queue's service.
class KernelQueue {
  let requests: DeviceRequests

  init(_ requests: DeviceRequests) { self.requests = requests }

  /// A part of a slot's request has ended.
  final func partEnded(_ slot: Int, _ status: BlockStatus) {
    if requests.partEnded(slot, status) { end(slot) }
  }

  /// After a batch of them: what waited has its turn. What an end does besides it adds.
  func finishBatch() { requests.submitWaiting { end($0) } }

  /// A slot's request has ended: the kernel is told.
  func end(_ slot: Int) { preconditionFailure("each end's own") }

  /// Everything has been answered: nothing comes and goes any more.
  func close() {}
}
