import FabricAdapterParts
import FabricVerbs

extension SharedMemoryQueuePair {
  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    precondition(!usesSharedReceiveQueue, "post to the shared receive queue instead")
    let admitted = receiveCompletionQueue.admission.admit(requests.count)
    do {
      try receiveQueue.post(requests, admitted: admitted)
    } catch {
      receiveCompletionQueue.admission.withdraw(admitted &- error.acceptedCount)
      throw error
    }
  }
}
