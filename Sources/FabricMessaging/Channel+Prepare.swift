public import FabricCompletion
import FabricPlatform

/// Bringing near what a message will touch, while other channels have their turn.
extension Channel {
  public func prepare(_ step: PreparationStep) {
    switch step {
    case .parts:
      UncountedReference(memory).prefetch(byteCount: 128)
      UncountedReference(credit).prefetch(byteCount: 64)
      UncountedReference(ownBuffers).prefetch(byteCount: 64)
      UncountedReference(inlineMessages).prefetch(byteCount: 64)
      unsafe prefetch(pending, byteCount: 128)
      unsafe prefetch(tokens + nextSlot, byteCount: 64)
      unsafe prefetch(tokens + oldestSlot, byteCount: 64)
      if let reference = unsafe handlerReference {
        unsafe UncountedReference(reference).prefetch(byteCount: 64)
      }
    case .contents:
      inlineMessages.prefetch()
      if let reference = unsafe handlerReference {
        unsafe reference._withUnsafeGuaranteedRef { $0.reference.prefetch(byteCount: 64) }
      }
    case .user, .userContents:
      if let reference = unsafe handlerReference {
        unsafe reference._withUnsafeGuaranteedRef { $0.handler.prepare(step) }
      }
    }
  }
}
