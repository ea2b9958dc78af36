import CFabricLinux
import FabricCommandLine
import FabricCompletion
import FabricHostDevices
import FabricHostDriver
import FabricIOProtocol
import FabricPlatform
import FabricStorage
import FabricVerbs
import Synchronization

/// The process that serves one device: waits for the volume, makes the device, answers commands, and
/// takes it all away again.
///
/// Threads: confined to one; the volume's requests are carried on by the service's.
final class DeviceDaemon {
  struct Settings {
    /// One for each path.
    var addresses: [VolumeAddress]
    var adapters: [any Adapter]
    var options: RemoteVolumeQueue.Options
    /// How long to wait for the device; nil: one attempt to connect, and for ever from then on.
    var timeout: Duration?
    var end: DeviceEnd
    /// Makes the volume that becomes the device.
    var makeVolume:
      (
        CompletionService, RemoteVolumeQueue.Options, @escaping @Sendable (HostVolumeEvent) -> Void
      ) -> any HostVolume
    /// Another process is to serve the device on when this one dies.
    var isServedOn: Bool
    /// Serves the device of a process that died on.
    var recovers: Bool

    var address: VolumeAddress { addresses[0] }
  }

  /// What the process is told by its other threads.
  enum Event: Sendable {
    case volume(HostVolumeEvent)
    /// The device is made, or why not.
    case made(Result<any HostBlockDevice, HostDeviceError>)
    /// A control call has an answer, for the client of that number.
    case controlled(Int, FabricIOProtocol.ControlAnswer)
    /// What was cached has been written back, or why not.
    case flushed(HostDeviceError?)
  }

  enum Phase: String {
    /// Until there is a device: first the volume is waited for, then the kernel.
    case connecting, making
    case attached, detaching

    var hasDevice: Bool { self == .attached || self == .detaching }
  }

  let settings: Settings
  let claim: ClaimedEntry
  var entry: StateEntry { claim.entry }
  let inbox: Inbox<Event>
  let volume: any HostVolume
  private let listener: SequencedSocket
  var clients: [SequencedSocket] = []
  var descendant: Descendant?
  private var guardStartedAt = MonotonicTime.now
  /// Told once how the start went; gone when it has been, or nobody waits for it.
  private var report: ((Result<DeviceStatus, any Error>) -> Void)?
  /// Closed by who waits for the report when that ends; -1: none.
  private var reportDescriptor: CInt

  var phase = Phase.connecting
  /// Of the device.
  var info: RemoteVolumeInfo?
  /// Once it is made.
  var device: (any HostBlockDevice)? { phase.hasDevice ? volume.blockDevice : nil }
  /// Makes the device: the kernel asks of it meanwhile, and commands do not wait for that.
  private var maker: SystemThread?
  var state = RemoteVolumeQueue.State.connecting
  /// How often the connection was lost.
  var lossCount = 0
  /// Who waits for the answers of control calls.
  var callers: [Int: SequencedSocket] = [:]
  /// The paths that they named.
  var calledPaths: [Int: Int] = [:]
  var callCount = 0
  /// Who asked for the device to be detached.
  var detacher: SequencedSocket?
  /// Set when all is over.
  var ending: Result<Void, any Error>?
  private var record: StateEntry.Record

  init(
    _ settings: Settings, claim: ClaimedEntry, reportDescriptor: CInt,
    report: @escaping (Result<DeviceStatus, any Error>) -> Void
  ) throws {
    self.settings = settings
    self.claim = claim
    self.report = report
    self.reportDescriptor = reportDescriptor
    let entry = claim.entry
    do throws(Errno) {
      inbox = try Inbox()
      listener = try SequencedSocket.listen(at: entry.socket)
    } catch {
      throw ToolFailure(
        66,
        SocketPath.reason(error, at: entry.socket) ?? "cannot listen at \(entry.socket): \(error)")
    }
    unsafe chmod(entry.socket, 0o600)
    if settings.recovers, var known = entry.readRecord() {
      known.processIdentifier = getpid()
      record = known
    } else {
      let token = "channelfabric:\(entry.name.prefix(20)):\(UInt64.random(in: 1...(.max)))"
      record = StateEntry.Record(
        name: entry.name, url: "\(settings.address)", token: token, processIdentifier: getpid())
      if settings.isServedOn {
        record.arguments = AttachArguments.forAnother(Array(CommandLine.arguments.dropFirst(2)))
        record.directory = claim.startDirectory
      }
    }
    let firstEpoch = record.nextEpoch
    let (next, isUsedUp) = firstEpoch.addingReportingOverflow(Self.epochRoom)
    guard !isUsedUp else {
      throw ToolFailure(74, "expected epochs for another process, but all are used; attach it anew")
    }
    record.nextEpoch = next
    try entry.write(record)
    // Threads that are started from here on have it, too. No machine's memory is this kernel's to free.
    if settings.end.name != DeviceEnd.vhostUser.name, fabric_set_io_flusher() != 0 {
      settings.options.log(
        "the kernel may have this process wait for memory that it is to free: \(Errno.current)")
    }
    var serviceOptions = CompletionService.Options()
    serviceOptions.threadCount = 1
    var options = settings.options
    let log = options.log
    let lastWords = LastWords()
    words = lastWords
    options.log = { line in
      lastWords.put(line)
      log(line)
    }
    // What a process before this one had under way is fenced first: its session goes on, with an epoch that is
    // greater than any that it has had. (IO-14)
    options.session = record.hostSession
    options.firstEpoch = firstEpoch
    let inbox = inbox
    let service = try CompletionService(serviceOptions)
    volume = settings.makeVolume(service, options) { inbox.put(.volume($0)) }
  }

  /// What was logged last, from whichever thread.
  final class LastWords: Sendable {
    private let text = Mutex("")

    func put(_ line: String) { text.withLock { $0 = line } }

    /// Why there is no connection; nil when nothing has been said.
    var reason: String? {
      let line = text.withLock { $0 }
      let because = line.firstRange(of: ", because ")
      return line.isEmpty ? nil : because.map { String(line[$0.upperBound...]) } ?? line
    }
  }
  let words: LastWords

  /// Serves the device until it is detached.
  ///
  /// - Throws: why there was no device, or no longer is one.
  func run() throws {
    inbox.takeSignals()
    do {
      if isToBeGuarded { try startGuard() }
      try volume.connect(settings.addresses, adapters: settings.adapters)
    } catch {
      end(.failure(error))
    }
    let deadline = settings.timeout.map { MonotonicTime.now + $0 }
    while ending == nil {
      wait(until: phase.hasDevice ? nil : deadline)
      if !phase.hasDevice, let deadline, let timeout = settings.timeout, ending == nil,
        MonotonicTime.now >= deadline
      {
        end(
          .failure(
            RemoteVolumeError.timedOut(
              address: settings.address, after: timeout,
              reason: whyNoDevice)))
      }
    }
    try ending?.get()
  }

  var whyNoDevice: String {
    if phase == .connecting { return words.reason ?? "there is no connection" }
    let path = volume.paths.first { $0.state != .ready || $0.accessState == .inaccessible }
    return path.map {
      $0.state == .ready ? "the unit calls \($0.address) \($0.accessState)" : $0.reason
    } ?? "the unit does not answer requests"
  }

  // MARK: Waiting

  private func wait(until deadline: MonotonicTime?) {
    let readable = Int16(POLLIN)
    var entries = [
      pollfd(fd: inbox.descriptor, events: readable, revents: 0),
      pollfd(fd: listener.descriptor.rawValue, events: readable, revents: 0),
      pollfd(fd: reportDescriptor, events: readable, revents: 0),
      pollfd(fd: descendant?.socket.descriptor.rawValue ?? -1, events: readable, revents: 0),
    ]
    let waiting = clients
    for client in waiting {
      entries.append(pollfd(fd: client.descriptor.rawValue, events: readable, revents: 0))
    }
    var limit: CInt = -1
    if let deadline { limit = CInt(deadline.nanoseconds(since: .now) / 1_000_000) + 1 }
    if descendant == nil { limit = limit < 0 ? 1000 : min(limit, 1000) }
    guard unsafe fabric_poll(&entries, UInt32(entries.count), limit) >= 0 else { return }
    let (events, mustEnd) = inbox.take()
    for event in events where ending == nil { handle(event) }
    if mustEnd, ending == nil { detach(force: false, for: nil) }
    if entries[3].revents != 0 { guardHasDied() }
    if descendant == nil, ending == nil, isToBeGuarded { try? startGuard() }
    if entries[2].revents != 0, !phase.hasDevice, ending == nil {
      if settings.recovers {
        // The process that watched has died: another one does.
        reportDescriptor = -1
      } else {
        // Whoever wanted it has gone, interrupted for example.
        end(.failure(ToolFailure(130, "interrupted")))
      }
    }
    if entries[1].revents != 0, let client = try? listener.accept() { clients.append(client) }
    for (index, client) in waiting.enumerated() where entries[index + 4].revents != 0 {
      guard ending == nil else { return }
      serve(client)
    }
  }

  private func handle(_ event: Event) {
    switch event {
    case .made(let result): made(result)
    case .flushed(let error): flushed(error)
    case .controlled(let number, let answer): controlled(number, answer)
    case .volume(.ended(let words)):
      log("\(words); the device goes")
      end(.failure(ToolFailure(71, words)))
    case .volume(.changed(let state)): changed(state)
    case .volume(.failed(let error, let count)): log("\(error) (error \(count))")
    }
  }

  /// Epochs that are set aside at once, in the record, before any is used: attempts to connect without another
  /// connection. The least that is left while there is one is the half, which lasts for days without any.
  private static let epochRoom: UInt32 = 1 << 18

  private func setEpochsAside() {
    let epoch = UInt64(volume.withQueue { $0?.epoch ?? 0 })
    guard UInt64(record.nextEpoch) < epoch + UInt64(Self.epochRoom / 2) else { return }
    record.nextEpoch = UInt32(clamping: epoch + UInt64(Self.epochRoom))
    do { try entry.write(record) } catch { log("cannot write \(entry.path): \(error)") }
  }

  private func changed(_ new: RemoteVolumeQueue.State) {
    if case .attached = state, case .connecting = new { lossCount += 1 }
    state = new
    switch new {
    case .attached(let info):
      setEpochsAside()
      if phase == .connecting {
        makeDevice(info)
      } else if phase == .attached {
        grow(to: info)
      }
    case .failed(let error):
      if !phase.hasDevice { return end(.failure(error)) }
      log("\(error); requests end with I/O errors from now on")
    case .connecting, .closed: break
    }
  }

  private func makeDevice(_ info: RemoteVolumeInfo) {
    // A host that asked to read only gets no more.
    let isReadOnly = settings.options.access == .readOnly || info.access == .readOnly
    let (volume, inbox, token, place) = (volume, inbox, record.token, entry.mountPoint)
    self.info = info
    phase = .making
    do throws(Errno) {
      maker = try SystemThread.start(name: "device") {
        do throws(HostDeviceError) {
          let device = try volume.makeDevice(info, in: place, isReadOnly: isReadOnly, token: token)
          inbox.put(.made(.success(device)))
        } catch { inbox.put(.made(.failure(error))) }
      }
    } catch { made(.failure(.system(error, doing: "expected to start a thread"))) }
  }

  private func made(_ result: Result<any HostBlockDevice, HostDeviceError>) {
    maker?.join()
    maker = nil
    do {
      let device = try result.get()
      record.device = device.path
      try entry.write(record)
      phase = .attached
      log("\(settings.address) is \(device.path)")
      if descendant == nil { try startGuard() }
      report?(.success(status()))
      report = nil
      reportDescriptor = -1
    } catch { end(.failure(error)) }
  }

  /// The volume may have grown.
  private func grow(to new: RemoteVolumeInfo) {
    guard let old = info, new.blockCount > old.blockCount, let device else { return }
    do throws(HostDeviceError) {
      guard try volume.grow(to: new) else {
        return log(
          "\(settings.address) has \(new.blockCount) blocks now, and \(device.path) as many as before: "
            + "attach it anew")
      }
      info = new
      log("\(device.path) has \(new.blockCount) blocks now")
    } catch { log("\(error)") }
  }

  // MARK: The other process

  /// Starts the process that cleans up when this one dies without a word. (HD-31)
  private func startGuard() throws(ToolFailure) {
    guard MonotonicTime.now.nanoseconds(since: guardStartedAt) > 500_000_000 || guardCount == 0
    else { return }
    guardStartedAt = .now
    guardCount += 1
    descendant = try Descendant.start([
      "iohost", "attach-guard", "--state-dir", entry.directory.path, "--name", entry.name,
      "--process", "\(getpid())",
    ])
  }

  private var guardCount = 0

  /// Until the device is served on the process watches that has started this one.
  private var isToBeGuarded: Bool {
    !settings.recovers || phase.hasDevice || reportDescriptor < 0
  }

  private func guardHasDied() {
    guard let descendant else { return }
    descendant.join()
    self.descendant = nil
    log("process \(descendant.processIdentifier), which watches over this one, has died; another")
  }

  // MARK: The end

  /// Takes everything away and tells whoever asked. (HD-30)
  func end(_ result: Result<Void, any Error>) {
    guard ending == nil else { return }
    ending = result
    if let maker {
      volume.giveUp()
      maker.join()
      self.maker = nil
    }
    volume.close()
    if settings.recovers {
      // One that could not be served on.
      for device in StateEntry.devices(record.token) { device.abandon() }
    }
    claim.remove()
    if let descendant {
      SequencedSocket.sendByte(AttachGuard.dismissal, to: descendant.socket.descriptor.rawValue)
      descendant.join()
    }
    if case .failure(let error) = result { report?(.failure(error)) }
    report = nil
    answer(detacher, ControlAnswer(status()))
  }

  func log(_ text: String) { settings.options.log(text) }
}
