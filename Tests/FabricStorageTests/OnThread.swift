import FabricStorage
import Foundation

/// Runs `body` on a thread of its own, so that waiting in it holds up no other task.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
  await withCheckedContinuation { continuation in
    Thread.detachNewThread { continuation.resume(returning: body()) }
  }
}

/// Foundation has a class of this name.
typealias BlockOperation = FabricStorage.BlockOperation
