import Foundation
import Synchronization

/// Runs on another thread what waits for the service's, which is this one.
public func elsewhere<Value: Sendable>(
  _ turn: () -> Void, wake: @escaping @Sendable () -> Void,
  _ body: @escaping @Sendable () throws -> Value
) throws -> Value {
  let box = Box<Result<Value, any Error>>()
  Thread.detachNewThread {
    let result = Result { try body() }
    box.value.withLock { $0 = result }
    wake()
  }
  while true {
    if let result = box.value.withLock({ $0 }) { return try result.get() }
    turn()
  }
}

private final class Box<Value: Sendable>: Sendable {
  let value = Mutex<Value?>(nil)
}
