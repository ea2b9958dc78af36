/// What a host is told without having asked for it just then. (Base 1.4, section 5.2)
enum Event: Hashable, Sendable {
  /// Namespaces have come, gone or changed.
  case namespaces
  /// The discovery log has changed.
  case discovery

  /// The page that says what has happened; reading it lets the next event of this kind come.
  var logPage: UInt8 { self == .namespaces ? LogPage.changedNamespaces : LogPage.discovery }

  /// The bit of the feature that lets it be told.
  var configurationBit: UInt32 { self == .namespaces ? 1 << 8 : 1 << 31 }

  /// Type (a notice), what kind of notice, and the page, as the request's completion has them.
  var result: UInt64 {
    let information: UInt64 = self == .namespaces ? 0x00 : 0xF0
    return 0x2 | information << 8 | UInt64(logPage) << 16
  }
}

extension Controller {
  /// Requests for events that may wait at once.
  static let eventRequestLimit = 4

  /// Asynchronous Event Request: ends when there is something to tell.
  func awaitEvent(_ command: Command) -> AdminOutcome {
    guard heldEvents.count < Self.eventRequestLimit else {
      return .done(.asynchronousEventRequestLimit)
    }
    if let event = nextEvent() {
      maskedEvents.insert(event)
      return .done(.success, result: event.result)
    }
    heldEvents.append(command.identifier)
    return .held
  }

  func namespaceHasChanged(_ number: UInt32) {
    guard kind == .io else { return }
    changedNamespaces.insert(number)
    happened(.namespaces)
  }

  func discoveryHasChanged() {
    if kind == .discovery { happened(.discovery) }
  }

  private func happened(_ event: Event) {
    if !pendingEvents.contains(event) { pendingEvents.append(event) }
    deliverEvents()
  }

  /// Tells what may be told, as long as somebody waits for it.
  func deliverEvents() {
    while !heldEvents.isEmpty, let link = adminLink, let event = nextEvent() {
      maskedEvents.insert(event)
      link.answer(heldEvents.removeFirst(), .success, result: event.result)
    }
  }

  private func nextEvent() -> Event? {
    guard
      let index = pendingEvents.firstIndex(where: {
        !maskedEvents.contains($0) && features.asynchronousEvents & $0.configurationBit != 0
      })
    else { return nil }
    return pendingEvents.remove(at: index)
  }

  /// The host has read a page, which lets the next event of its kind come.
  func unmask(_ page: UInt8) {
    for event in maskedEvents where event.logPage == page { maskedEvents.remove(event) }
    deliverEvents()
  }

  /// Abort. Of what the host has sent only requests for events can still be given up: the rest is with
  /// the store, and ends soon. (Base 1.4, section 5.1)
  func abort(_ command: Command) -> AdminOutcome {
    let queue = UInt16(truncatingIfNeeded: command.dword10)
    let identifier = UInt16(truncatingIfNeeded: command.dword10 >> 16)
    // Bit 0: it was not aborted.
    guard queue == 0, let index = heldEvents.firstIndex(of: identifier) else {
      return .done(.success, result: 1)
    }
    heldEvents.remove(at: index)
    adminLink?.answer(identifier, .abortRequested, result: 0)
    return .done(.success, result: 0)
  }
}
