import CFabricLinux

/// Waits for many descriptors at once, level-triggered. The corresponding C type is an `epoll`
/// descriptor, which may itself be waited for.
public struct Poller: ~Copyable, Sendable {
  public let descriptor: Descriptor

  public init() throws(Errno) {
    descriptor = try Descriptor(result: fabric_epoll_create())
  }

  /// Watches `number` for input and hang-up; `tag` comes back with its events.
  public borrowing func add(_ number: CInt, tag: UInt64) throws(Errno) {
    let result = fabric_epoll_add(descriptor.rawValue, number, tag)
    guard result == 0 else { throw Errno.current }
  }

  /// Watches `number` for input, hang-up, and room for output after there was none, each told once
  /// when it comes: whoever is told reads until there is no more.
  public borrowing func addEdges(_ number: CInt, tag: UInt64) throws(Errno) {
    let result = fabric_epoll_add_edges(descriptor.rawValue, number, tag)
    guard result == 0 else { throw Errno.current }
  }

  /// Watches `number` for room for output only.
  public borrowing func addOutput(_ number: CInt, tag: UInt64) throws(Errno) {
    let result = fabric_epoll_add_output(descriptor.rawValue, number, tag)
    guard result == 0 else { throw Errno.current }
  }

  /// Stops watching `number`; no effect when it is not watched.
  public borrowing func remove(_ number: CInt) {
    _ = epoll_ctl(descriptor.rawValue, EPOLL_CTL_DEL, number, nil)
  }

  /// Calls `handle` with the tag of each ready descriptor, at most 64 in a call.
  ///
  /// - Parameter timeout: how long to wait when none is ready; nil waits for ever.
  /// - Returns: how many were ready; 0 after the time-out or a signal.
  @discardableResult
  public borrowing func wait(timeout: Duration?, _ handle: (UInt64) -> Void) -> Int {
    var milliseconds: CInt = -1
    if let timeout {
      milliseconds = CInt(clamping: (timeout.nanoseconds &+ 999_999) / 1_000_000)
    }
    let number = descriptor.rawValue
    return unsafe withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { tags in
      let count = unsafe fabric_epoll_wait(number, tags.baseAddress!, milliseconds)
      guard count > 0 else { return 0 }
      for index in 0..<Int(count) { unsafe handle(tags[index]) }
      return Int(count)
    }
  }

  /// Calls `handle` with the tag of each ready descriptor, at most 64, without waiting, and with
  /// whether the other end of its stream has ended or the connection failed. `prepare` is called
  /// with each tag four calls before that, or earlier.
  public borrowing func takeEdges(
    prepare: (_ tag: UInt64) -> Void, _ handle: (_ tag: UInt64, _ hasEnded: Bool) -> Void
  ) {
    let number = descriptor.rawValue
    unsafe withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { tags in
      var ended: UInt64 = 0
      let count = unsafe fabric_epoll_take_edges(number, tags.baseAddress!, &ended)
      guard count > 0 else { return }
      let ahead = 4
      for index in 0..<min(ahead, Int(count)) { unsafe prepare(tags[index]) }
      for index in 0..<Int(count) {
        if index + ahead < Int(count) { unsafe prepare(tags[index + ahead]) }
        unsafe handle(tags[index], ended >> index & 1 != 0)
      }
    }
  }
}

/// A wake-up that any thread may give and one waits for. The corresponding C type is an `eventfd`.
public struct EventDescriptor: ~Copyable, Sendable {
  public let descriptor: Descriptor

  public init() throws(Errno) {
    descriptor = try Descriptor(result: fabric_eventfd())
  }

  /// Makes the descriptor readable.
  public borrowing func signal() {
    var one: UInt64 = 1
    _ = unsafe write(descriptor.rawValue, &one, 8)
  }

  /// Makes the descriptor unreadable until the next signal.
  public borrowing func clear() {
    var count: UInt64 = 0
    _ = unsafe read(descriptor.rawValue, &count, 8)
  }
}
