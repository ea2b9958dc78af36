import FabricMessaging
import FabricSharedMemory
import FabricVerbs
import Synchronization
import Testing

/// Remembers in which order requests were fulfilled, and with what.
private final class Fulfilled: Sendable {
  let log = Mutex<[(name: String, result: Result<[MessageElement], MessagePoolError>)]>([])

  func handler(
    _ name: String
  ) -> @Sendable (Result<[MessageElement], MessagePoolError>) -> Void {
    { [self] result in log.withLock { $0.append((name, result)) } }
  }

  var names: [String] { log.withLock { $0.map(\.name) } }
  func elements(_ index: Int) throws -> [MessageElement] {
    try log.withLock { $0[index].result }.get()
  }
}

@Suite("Message pool") struct MessagePoolTests {
  private func pool(_ capacity: Int) throws -> MessagePool {
    try MessagePool(
      in: try SharedMemoryAdapter().makeProtectionDomain(), capacity: capacity,
      elementByteCount: 256)
  }

  @Test("free and out make up the whole, and elements do not overlap")
  func accounts() throws {
    let pool = try pool(8)
    let some = try pool.take(5)
    #expect(pool.freeCount == 3)
    let rest = try pool.take(3)
    #expect(Set((some + rest).map(\.address)).count == 8)
    #expect(pool.take() == nil)
    for (one, other) in zip(
      (some + rest).map(\.address).sorted(), (some + rest).map(\.address).sorted().dropFirst())
    {
      #expect(other - one >= 256)
    }
    pool.giveBack(some)
    for element in rest { pool.giveBack(element) }
    #expect(pool.freeCount == 8)
    try pool.close()
    #expect(throws: MessagePoolError.closed) { try pool.take(1) }
  }

  @Test("a request gets all or nothing, and an impossible one is refused at once")
  func allOrNothing() throws {
    let pool = try pool(4)
    let one = try #require(pool.take())
    #expect(throws: MessagePoolError.notNow) { try pool.take(4) }
    #expect(pool.freeCount == 3)
    #expect(throws: MessagePoolError.impossibleCount(wanted: 5, capacity: 4)) { try pool.take(5) }
    #expect(throws: MessagePoolError.impossibleCount(wanted: 0, capacity: 4)) { try pool.take(0) }
    pool.giveBack(one)
  }

  @Test("a large request behind small ones is served, first come first served")
  func order() throws {
    let pool = try pool(4)
    let fulfilled = Fulfilled()
    let out = try pool.take(4)
    try pool.take(4, whenFree: fulfilled.handler("large"))
    try pool.take(1, whenFree: fulfilled.handler("small"))
    pool.giveBack(out[0])
    pool.giveBack(out[1])
    // Two are free, and a synchronous request does not overtake those that wait.
    #expect(pool.take() == nil)
    #expect(throws: MessagePoolError.notNow) { try pool.take(1) }
    #expect(fulfilled.names.isEmpty)
    pool.giveBack([out[2], out[3]])
    #expect(fulfilled.names == ["large"])
    pool.giveBack(try fulfilled.elements(0))
    #expect(fulfilled.names == ["large", "small"])
    pool.giveBack(try fulfilled.elements(1))
    #expect(pool.freeCount == 4)
  }

  @Test("a request that can be met is met in the call, outside the lock")
  func atOnce() throws {
    let pool = try pool(2)
    let met = Mutex(0)
    try pool.take(1) { result in
      // Would deadlock under the pool's lock.
      if let elements = try? result.get() { pool.giveBack(elements) }
      met.withLock { $0 += 1 }
    }
    #expect(met.withLock { $0 } == 1)
    #expect(pool.freeCount == 2)
  }

  @Test("cancelling lets those behind go on, once")
  func cancel() throws {
    let pool = try pool(2)
    let fulfilled = Fulfilled()
    let out = try pool.take(1)
    let large = try pool.take(2, whenFree: fulfilled.handler("large"))
    try pool.take(1, whenFree: fulfilled.handler("small"))
    #expect(pool.cancel(large))
    #expect(!pool.cancel(large))
    #expect(fulfilled.names == ["small"])
    pool.giveBack(try fulfilled.elements(0))
    pool.giveBack(out)
  }

  @Test("closing with elements out or requests waiting is refused")
  func closing() throws {
    let pool = try pool(1)
    let out = try #require(pool.take())
    #expect(throws: MessagePoolError.inUse(out: 1, waiting: 0)) { try pool.close() }
    let fulfilled = Fulfilled()
    try pool.take(1, whenFree: fulfilled.handler("waiting"))
    #expect(throws: MessagePoolError.inUse(out: 1, waiting: 1)) { try pool.close() }
    pool.giveBack(out)
    pool.giveBack(try fulfilled.elements(0))
    try pool.close()
  }

  @Test("a million times taken and given back, nothing is registered anew")
  func registersOnce() throws {
    let pool = try pool(16)
    var seen: Set<UInt64> = []
    var keys: Set<LocalKey> = []
    for _ in 0..<1_000_000 {
      let element = try #require(pool.take())
      if seen.insert(element.address).inserted { keys.insert(element.localKey) }
      pool.giveBack(element)
    }
    #expect(seen.count <= 16 && keys.count == 1)
  }

  @Test("giving back twice traps")
  func doubleReturn() async {
    await #expect(processExitsWith: .failure) {
      let pool = try MessagePool(
        in: try SharedMemoryAdapter().makeProtectionDomain(), capacity: 2, elementByteCount: 64)
      let element = pool.take()!
      pool.giveBack(element)
      pool.giveBack(element)
    }
  }

  @Test("an element of another pool traps")
  func foreignElement() async {
    await #expect(processExitsWith: .failure) {
      let domain = try SharedMemoryAdapter().makeProtectionDomain()
      let one = try MessagePool(in: domain, capacity: 2, elementByteCount: 64)
      let other = try MessagePool(in: domain, capacity: 2, elementByteCount: 64)
      _ = other.take()
      one.giveBack(other.take()!)
    }
  }
}
