import FabricPlatform
import Synchronization

extension CompletionService {
  /// Runs `body` on the first thread as `execute` does, and returns what it returns. Not from the
  /// service's own threads, which it would wait for.
  public func result<Value: Sendable>(of body: @escaping @Sendable () -> Value) -> Value {
    let place = Handover<Value>()
    execute { place.put(body()) }
    return place.take()
  }
}

/// A value that one thread hands to another, which waits for it.
private final class Handover<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  private let isThere = Atomic<UInt32>(0)

  func put(_ value: Value) {
    self.value.withLock { $0 = value }
    isThere.store(1, ordering: .releasing)
    Futex.wake(isThere)
  }

  func take() -> Value {
    while isThere.load(ordering: .acquiring) == 0 { Futex.wait(isThere, while: 0) }
    return value.withLock { $0! }
  }
}
