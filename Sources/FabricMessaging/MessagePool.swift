import FabricPlatform
public import FabricVerbs
import Synchronization

/// One registered buffer of a pool, lent to whoever took it. (S11's element.)
public struct MessageElement: Sendable, Hashable, BitwiseCopyable {
  /// Its place in the pool.
  public let index: Int
  /// First byte, an address in this process.
  public let address: UInt64
  public let byteCount: Int
  public let localKey: LocalKey

  /// Its first `count` bytes for a work request. Traps beyond its end.
  public func element(byteCount count: Int) -> ScatterGatherElement {
    precondition(count <= byteCount, "longer than the element")
    return ScatterGatherElement(
      address: address, byteCount: UInt32(count), localKey: localKey)
  }
}

/// Why a pool refused.
public enum MessagePoolError: Error, Equatable, Sendable, CustomStringConvertible {
  /// More than the pool has in all, or none.
  case impossibleCount(wanted: Int, capacity: Int)
  /// Fewer are free now, or others wait before this request.
  case notNow
  /// Elements are still out, or requests wait.
  case inUse(out: Int, waiting: Int)
  /// The pool was closed.
  case closed

  public var description: String {
    switch self {
    case .impossibleCount(let wanted, let capacity):
      "expected a request for 1 to \(capacity) elements, got \(wanted)"
    case .notNow: "too few elements are free; ask again after some have come back"
    case .inUse(let out, let waiting):
      "expected every element back before closing; \(out) are out and \(waiting) requests wait"
    case .closed: "the pool is closed"
    }
  }
}

/// Buffers that are allocated and registered once and then lent (S11).
///
/// First come, first served; a request gets all it asked for or nothing; a synchronous request
/// never overtakes a waiting one. Threads: all calls from any thread; callbacks run outside the
/// lock, on the thread that gave the elements back.
public final class MessagePool: Sendable {
  /// Names a waiting request, to cancel it.
  public struct Ticket: Hashable, Sendable { fileprivate let number: UInt64 }

  private struct Waiter {
    let ticket: Ticket
    let count: Int
    let fulfil: @Sendable (Result<[MessageElement], MessagePoolError>) -> Void
  }
  private struct State {
    var free: [Int]
    var isOut: [Bool]
    var waiters: [Waiter] = []
    var nextTicket: UInt64 = 0
    var isClosed = false
  }

  public let capacity: Int
  public let elementByteCount: Int
  private let domain: any ProtectionDomain
  private let region: MemoryRegion
  private let state: Mutex<State>

  /// Allocates and registers `capacity` elements of `elementByteCount` bytes each.
  public init(
    in domain: any ProtectionDomain, capacity: Int, elementByteCount: Int,
    access: AccessRights = .localWrite
  ) throws(RegistrationError) {
    precondition(capacity > 0 && elementByteCount > 0)
    self.capacity = capacity
    self.elementByteCount = elementByteCount
    self.domain = domain
    region = try domain.allocate(byteCount: capacity * elementByteCount, access: access)
    state = Mutex(
      State(
        free: Array((0..<capacity).reversed()), isOut: Array(repeating: false, count: capacity)))
  }

  deinit { domain.deregister(region) }

  /// Elements free now; with those out they make up `capacity`.
  public var freeCount: Int { state.withLock { $0.free.count } }

  /// Takes one element at once.
  public func take() -> MessageElement? {
    state.withLock { state in
      guard state.waiters.isEmpty, !state.isClosed, let index = state.free.popLast() else {
        return nil
      }
      state.isOut[index] = true
      return element(index)
    }
  }

  /// Takes `count` elements at once, or none.
  public func take(_ count: Int) throws(MessagePoolError) -> [MessageElement] {
    try check(count)
    let result: Result<[MessageElement], MessagePoolError> = state.withLock { state in
      if state.isClosed { return .failure(.closed) }
      guard state.waiters.isEmpty, state.free.count >= count else { return .failure(.notNow) }
      return .success(lend(count, &state))
    }
    return try result.get()
  }

  /// Asks for `count` elements; `fulfil` is called once, in this call when they are free.
  @discardableResult
  public func take(
    _ count: Int,
    whenFree fulfil: @escaping @Sendable (Result<[MessageElement], MessagePoolError>) -> Void
  ) throws(MessagePoolError) -> Ticket {
    try check(count)
    let (ticket, result): (Ticket, Result<[MessageElement], MessagePoolError>?) =
      state.withLock { state in
        let ticket = Ticket(number: state.nextTicket)
        state.nextTicket += 1
        if state.isClosed { return (ticket, .failure(.closed)) }
        if state.waiters.isEmpty && state.free.count >= count {
          return (ticket, .success(lend(count, &state)))
        }
        state.waiters.append(Waiter(ticket: ticket, count: count, fulfil: fulfil))
        return (ticket, nil)
      }
    if let result { fulfil(result) }
    return ticket
  }

  /// Withdraws a waiting request; false when it has been fulfilled already.
  public func cancel(_ ticket: Ticket) -> Bool {
    let (found, ready) = state.withLock { state in
      let before = state.waiters.count
      state.waiters.removeAll { $0.ticket == ticket }
      return (state.waiters.count != before, serve(&state))
    }
    for (fulfil, elements) in ready { fulfil(.success(elements)) }
    return found
  }

  /// Gives an element back. Traps when it is not out or not of this pool.
  public func giveBack(_ element: MessageElement) {
    let ready = state.withLock { state in
      takeBack(element, &state)
      return state.waiters.isEmpty ? [] : serve(&state)
    }
    for (fulfil, elements) in ready { fulfil(.success(elements)) }
  }

  /// Gives elements back together. Traps when one is not out or not of this pool.
  public func giveBack(_ elements: [MessageElement]) {
    let ready = state.withLock { state in
      for element in elements { takeBack(element, &state) }
      return serve(&state)
    }
    for (fulfil, elements) in ready { fulfil(.success(elements)) }
  }

  /// Closes the pool: later requests are refused.
  ///
  /// - Throws: `.inUse` while elements are out or requests wait; the pool then stays open.
  public func close() throws(MessagePoolError) {
    let refusal: MessagePoolError? = state.withLock { state in
      let out = capacity - state.free.count
      guard out == 0, state.waiters.isEmpty else {
        return .inUse(out: out, waiting: state.waiters.count)
      }
      state.isClosed = true
      return nil
    }
    if let refusal { throw refusal }
  }

  // MARK: Under the lock

  private func check(_ count: Int) throws(MessagePoolError) {
    guard 1...capacity ~= count else {
      throw .impossibleCount(wanted: count, capacity: capacity)
    }
  }

  private func element(_ index: Int) -> MessageElement {
    MessageElement(
      index: index, address: region.address + UInt64(index * elementByteCount),
      byteCount: elementByteCount, localKey: region.localKey)
  }

  private func lend(_ count: Int, _ state: inout State) -> [MessageElement] {
    (0..<count).map { _ in
      let index = state.free.removeLast()
      state.isOut[index] = true
      return element(index)
    }
  }

  private func takeBack(_ element: MessageElement, _ state: inout State) {
    precondition(
      state.isOut.indices.contains(element.index) && element == self.element(element.index),
      "the element belongs to another pool")
    precondition(state.isOut[element.index], "the element was given back before")
    state.isOut[element.index] = false
    state.free.append(element.index)
  }

  /// Fulfils waiting requests in order, as far as the free elements go.
  private func serve(
    _ state: inout State
  ) -> [(@Sendable (Result<[MessageElement], MessagePoolError>) -> Void, [MessageElement])] {
    var ready:
      [(@Sendable (Result<[MessageElement], MessagePoolError>) -> Void, [MessageElement])] =
        []
    while let waiter = state.waiters.first, waiter.count <= state.free.count {
      state.waiters.removeFirst()
      ready.append((waiter.fulfil, lend(waiter.count, &state)))
    }
    return ready
  }
}
