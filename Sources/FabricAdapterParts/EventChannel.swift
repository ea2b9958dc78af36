public import FabricPlatform
public import FabricVerbs
import Synchronization

/// Something with a descriptor that an event channel looks after.
public protocol EventSource: AnyObject, Sendable {
  /// The descriptor has something.
  func ready()
  /// Called now and then, for time-outs.
  func expire(at now: MonotonicTime)
}

/// Gathers what happens on sockets into connection events.
public final class EventChannel: ConnectionEventChannel, @unchecked Sendable {
  private struct State {
    var sources: [UInt64: any EventSource] = [:]
    var nextTag: UInt64 = 1
    var events: [ConnectionEvent] = []
  }

  private let poller: Poller
  private let wakeUp: EventDescriptor
  private let state = Mutex(State())
  private var nextExpiry = MonotonicTime(nanoseconds: 0)
  /// Kept, so that a look at the time-outs allocates nothing.
  private var looked: [any EventSource] = []

  public init() throws(Errno) {
    poller = try Poller()
    wakeUp = try EventDescriptor()
    try poller.add(wakeUp.descriptor.rawValue, tag: 0)
  }

  public var descriptor: CInt? { poller.descriptor.rawValue }

  /// Listeners, connections and peers at the door that it looks after.
  public var sourceCount: Int { state.withLock { $0.sources.count } }

  public func poll() -> ConnectionEvent? {
    if let event = takeEvent() { return event }
    poller.wait(timeout: .zero) { tag in
      if tag == 0 {
        wakeUp.clear()
      } else {
        let source = state.withLock { $0.sources[tag] }
        source?.ready()
      }
    }
    let now = MonotonicTime.now
    if nextExpiry <= now {
      nextExpiry = now + .milliseconds(50)
      state.withLock { state in
        var index = state.sources.startIndex
        while index != state.sources.endIndex {
          looked.append(state.sources.values[index])
          state.sources.formIndex(after: &index)
        }
      }
      var index = 0
      while index < looked.count {
        looked[index].expire(at: now)
        index += 1
      }
      looked.removeAll(keepingCapacity: true)
    }
    return takeEvent()
  }

  private func takeEvent() -> ConnectionEvent? {
    state.withLock { $0.events.isEmpty ? nil : $0.events.removeFirst() }
  }

  public func post(_ event: ConnectionEvent) {
    state.withLock { $0.events.append(event) }
    wakeUp.signal()
  }

  /// Looks after a source from now on; the tag ends it.
  public func add(_ source: any EventSource, descriptor: CInt) throws(Errno) -> UInt64 {
    let tag = enter(source)
    do {
      try poller.add(descriptor, tag: tag)
    } catch {
      state.withLock { _ = $0.sources.removeValue(forKey: tag) }
      throw error
    }
    return tag
  }

  /// As `add`, for a descriptor that is waited for until it has room for output.
  public func addOutput(_ source: any EventSource, descriptor: CInt) throws(Errno) -> UInt64 {
    let tag = enter(source)
    do {
      try poller.addOutput(descriptor, tag: tag)
    } catch {
      state.withLock { _ = $0.sources.removeValue(forKey: tag) }
      throw error
    }
    return tag
  }

  private func enter(_ source: any EventSource) -> UInt64 {
    state.withLock { state in
      let tag = state.nextTag
      state.nextTag += 1
      state.sources[tag] = source
      return tag
    }
  }

  /// Wakes nobody for a descriptor for a while; its source stays.
  public func unwatch(descriptor: CInt) { poller.remove(descriptor) }

  /// Ends `unwatch`, unless the source has gone: nobody would answer its descriptor.
  public func watch(tag: UInt64, descriptor: CInt) throws(Errno) {
    try state.withLock { state throws(Errno) in
      if state.sources[tag] != nil { try poller.add(descriptor, tag: tag) }
    }
  }

  public func remove(tag: UInt64, descriptor: CInt) {
    let wasThere = state.withLock { $0.sources.removeValue(forKey: tag) != nil }
    if wasThere { poller.remove(descriptor) }
  }
}
