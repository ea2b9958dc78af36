import CFabricLinux
import FabricCommandLine
import FabricCompletion
import FabricHostDriver
import FabricMessaging
import FabricNIC
import FabricNICHost
import FabricPlatform
import FoundationEssentials

/// The process that carries an interface's frames: it tells who asks, until it is detached. (NI-40, NI-41)
final class NICDaemon {
  private let arguments: NICArguments
  private let address: VolumeAddress
  private let directory: NICDirectory
  private var entry: NICEntry
  private let lock: Descriptor
  private var record: NICEntry.Record
  /// Of a process that has died, whose interface this one takes up; nil: there was none.
  private let old: NICEntry.Record?
  /// What the interface had before this process gave it another.
  private let formerAddress: MACAddress?
  private var hasBeenAttached = false
  /// What the process is told by its other thread.
  private enum Event: Sendable {
    case state(HostNIC.State)
    /// Others have given the interface another name.
    case renamed(NetworkInterface)
    /// What the unit has counted, for the client of that number.
    case counted(Int, NICStatistics?)
  }
  private let inbox: Inbox<Event>
  private let listener: SequencedSocket
  private let service: CompletionService
  private let nic: HostNIC
  private var clients: [SequencedSocket] = []
  /// Who waits for what the unit has counted.
  private var askers: [Int: SequencedSocket] = [:]
  private var askCount = 0
  private var state = HostNIC.State.connecting("no connection was made yet")
  /// Told once how the start went.
  private var report: ((NICAnswer) -> Void)?
  private let reportDescriptor: CInt
  private var ending: Result<Void, ToolFailure>?

  init(
    _ arguments: NICArguments, address: VolumeAddress, reportDescriptor: CInt,
    report: @escaping (NICAnswer) -> Void
  ) throws {
    self.arguments = arguments
    self.address = address
    self.reportDescriptor = reportDescriptor
    self.report = report
    let options = try arguments.options(for: address)
    let adapter = try arguments.connection.adapter(for: address)
    directory = try arguments.place.directory()
    entry = directory.entry(named: arguments.name)
    lock = try directory.claim(entry)
    let interface = try NetworkInterface(arguments.name)
    // What a process of ours has left that died is ours again.
    let interfaceWasThere = interface.exists
    old = interfaceWasThere ? entry.readRecord() : nil
    record = NICEntry.Record(
      url: "\(address)", processIdentifier: getpid(),
      wasThere: interfaceWasThere && old?.wasThere != false)
    var port: FramePort?
    do {
      let made = try FramePort.tap(interface, queueCount: arguments.queues)
      port = made
      FileKind.remove(entry.socket)
      inbox = try Inbox()
      listener = try SequencedSocket.listen(at: entry.socket)
      unsafe chmod(entry.socket, 0o600)
      if reportDescriptor >= 0 { try Self.redirectOutput(to: entry.log) }
      let former = try interface.address()
      if let mac = arguments.mac.flatMap({ MACAddress($0) }), former != mac {
        formerAddress = former
        try interface.setAddress(mac)
      } else {
        formerAddress = nil
      }
      if !interfaceWasThere { try interface.setUp() }
      if !record.wasThere { try made.keep() }
      try entry.write(record)
      var serviceOptions = CompletionService.Options()
      serviceOptions.threadCount = 1
      service = try CompletionService(serviceOptions)
      let inbox = inbox
      nic = try HostNIC(
        port: made, unit: address.unit, adapter: adapter, service: service, options: options,
        renamed: { inbox.put(.renamed($0)) }
      ) { inbox.put(.state($0)) }
    } catch {
      Self.takeAway(entry, record, port, unlessOf: old)
      throw error
    }
  }

  private static func redirectOutput(to log: String) throws(ToolFailure) {
    let number = unsafe fabric_open_log(log)
    guard number >= 0 else {
      throw ToolFailure(66, "expected to write \(log), got \"\(Errno.current)\"")
    }
    dup2(number, 1)
    dup2(number, 2)
    close(number)
  }

  /// Leaves nothing of an interface that this program has made.
  ///
  /// - Parameters:
  ///   - port: nil: the interface is not this process's.
  ///   - old: of a process that has died: its interface stays as it was, for the next attempt.
  private static func takeAway(
    _ entry: NICEntry, _ record: NICEntry.Record, _ port: FramePort?,
    unlessOf old: NICEntry.Record?
  ) {
    if let old {
      FileKind.remove(entry.socket)
      try? entry.write(old)
      return
    }
    if !record.wasThere { port?.remove() }
    entry.remove()
  }

  /// Serves the interface until it is detached.
  ///
  /// - Throws: why there was no connection, or no longer can be one.
  func run() throws {
    inbox.takeSignals()
    let nic = nic
    service.execute { nic.attach() }
    let deadline = arguments.connection.timeout.map { MonotonicTime.now + .seconds($0) }
    while ending == nil {
      wait(until: report == nil ? nil : deadline)
      if report != nil, let deadline, MonotonicTime.now >= deadline, ending == nil,
        case .connecting(let reason) = state
      {
        ending = .failure(
          ToolFailure(75, "no connection to \(address) within --timeout: \(reason)"))
      }
    }
    let last = NICAnswer(status())
    service.result(of: { nic.close() })
    service.stop()
    let hasFailed = if case .failure? = ending { !hasBeenAttached } else { false }
    if hasFailed, let formerAddress { try? nic.port.interface.setAddress(formerAddress) }
    Self.takeAway(entry, record, nic.port, unlessOf: hasFailed ? old : nil)
    for client in clients { answer(client, last) }
    try ending?.get()
  }

  private func wait(until deadline: MonotonicTime?) {
    let readable = Int16(POLLIN)
    var entries = [
      pollfd(fd: inbox.descriptor, events: readable, revents: 0),
      pollfd(fd: listener.descriptor.rawValue, events: readable, revents: 0),
      pollfd(fd: report == nil ? -1 : reportDescriptor, events: readable, revents: 0),
    ]
    let waiting = clients
    for client in waiting {
      entries.append(pollfd(fd: client.descriptor.rawValue, events: readable, revents: 0))
    }
    let limit = deadline.map { CInt($0.nanoseconds(since: .now) / 1_000_000) + 1 } ?? -1
    guard unsafe fabric_poll(&entries, UInt32(entries.count), limit) >= 0 else { return }
    let (events, mustEnd) = inbox.take()
    for event in events where ending == nil { handle(event) }
    if mustEnd, ending == nil { ending = .success(()) }
    if entries[2].revents != 0, report != nil, ending == nil {
      // Whoever wanted it has gone, interrupted for example.
      ending = .failure(ToolFailure(130, "interrupted"))
    }
    if entries[1].revents != 0, let client = try? listener.accept() { clients.append(client) }
    for (index, client) in waiting.enumerated()
    where entries[index + 3].revents != 0 && ending == nil {
      serve(client)
    }
  }

  private func handle(_ event: Event) {
    switch event {
    case .state(let new):
      state = new
      switch new {
      case .attached:
        hasBeenAttached = true
        report?(NICAnswer(status()))
        report = nil
      case .failed(let reason):
        ending = .failure(ToolFailure(reason))
      case .connecting, .closed: break
      }
    case .renamed(let interface):
      let other = directory.entry(named: interface.name)
      // Where that name is written down for another, which is not there, this one keeps its own.
      if other.name != entry.name, !other.isAlive { move(to: other) }
    case .counted(let number, let counted):
      guard let client = askers.removeValue(forKey: number) else { return }
      var status = status()
      let nic = nic
      status.counts = service.result(of: { nic.counted }).named
      status.unitCounts = counted?.named
      answer(client, NICAnswer(status))
    }
  }

  // MARK: Commands

  private func serve(_ client: SequencedSocket) {
    guard let request = ControlPacket.receive(NICRequest.self, on: client) else {
      clients.removeAll { $0 === client }
      return
    }
    switch request.request {
    case "status": answer(client, NICAnswer(status()))
    case "show":
      askCount += 1
      askers[askCount] = client
      let (nic, inbox, number) = (nic, inbox, askCount)
      service.execute { nic.askStatistics { inbox.put(.counted(number, $0)) } }
    case "rename":
      do {
        try rename(to: request.name ?? "")
        answer(client, NICAnswer(status()))
      } catch {
        let failure =
          (error as? InterfaceError).map { ToolFailure(74, $0.description) }
          ?? ToolFailure(anything: error)
        answer(client, NICAnswer(failure))
      }
    case "detach":
      // Answered once all is over.
      ending = .success(())
    default:
      answer(
        client,
        NICAnswer(
          ToolFailure(64, "expected status, show, rename or detach, got \(request.request)")))
    }
  }

  private func rename(to name: String) throws {
    let interface: NetworkInterface
    do { interface = try NetworkInterface(name) } catch { throw ToolFailure(64, error.description) }
    if name == entry.name { return }
    let other = directory.entry(named: name)
    guard !interface.exists, other.readRecord() == nil else {
      throw ToolFailure(64, "expected a name that no interface has, but \(name) is there")
    }
    let nic = nic
    try service.result(of: {
      Result { () throws(InterfaceError) in try nic.port.rename(to: interface) }
    })
    .get()
    move(to: other)
  }

  private func move(to other: NICEntry) {
    entry.rename(to: other)
    entry = other
  }

  private func answer(_ client: SequencedSocket, _ answer: NICAnswer) {
    try? client.send(ControlPacket.encode(answer))
  }

  private func status() -> NICStatus {
    var status = NICStatus(
      name: entry.name, url: "\(address)", state: "connecting",
      processIdentifier: ProcessIdentifier.own, log: entry.log)
    let nic = nic
    let (granted, name) = service.result(of: { (nic.address, nic.peerName) })
    status.address = granted.map { "\($0)" }
    status.unit = name.isEmpty ? nil : name
    switch state {
    case .attached(let link):
      status.state = "attached"
      status.isUp = link.isUp
      status.mtu = link.mtu
    case .connecting(let reason): status.reason = reason
    case .failed(let reason):
      status.state = "failed"
      status.reason = reason.description
    case .closed: status.state = "detached"
    }
    return status
  }
}

extension ToolFailure {
  fileprivate init(_ error: HostNICError) {
    let code: Int32 =
      switch error {
      case .opening(.unproven, _): 77
      case .opening(.resources, _): 71
      case .opening, .unfit: 69
      case .interface: 74
      }
    self.init(code, error.description)
  }
}
