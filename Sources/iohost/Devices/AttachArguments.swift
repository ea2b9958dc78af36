import ArgumentParser
import FabricCommandLine
import FabricCompletion
import FabricHostDevices
import FabricHostDriver
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import FoundationEssentials

/// What `iohost attach` takes, and the process that it starts.
struct AttachArguments: ParsableArguments {
  @Argument(help: "The volume; several URLs of one volume are several paths to it.")
  var urls: [String]

  @Flag(
    name: .long,
    help: "Uses the unit's other addresses as paths, too, as iohost discover shows them.")
  var allPaths = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Which path a request takes: \(PathPolicy.allCases.map(\.rawValue).joined(separator: ", ")).",
      discussion: "iohost paths --policy changes it.", valueName: "POLICY"))
  var policy = PathPolicy.roundRobin

  @Option(
    name: .customLong("as"),
    help: ArgumentHelp(
      """
      What it becomes: ublk, a device of the kernel's user-space block driver; nbd, one of its NBD \
      client; loop, a loop device on a file of FUSE; vhost-user:SOCKET, a disk for a virtual machine, at a Unix socket that its \
      emulator connects to; or auto, the best that this machine has.
      """,
      valueName: "END"))
  var kind = "auto"

  @Option(
    name: .long,
    help: "What commands call it: letters, digits, . _ and -. Without it as the volume is called.")
  var name: String?

  @Flag(
    name: .long,
    help: "Stays in the foreground until ^C or SIGTERM, and logs to the standard error.")
  var foreground = false

  @Flag(name: .long, help: "Only reads: the device takes no writes.")
  var readOnly = false

  @Option(
    name: .long, parsing: .unconditional,
    help: """
      Seconds that requests wait while there is no path before they, and those that follow, end \
      with I/O errors, until there is a path again. Without it they wait for ever.
      """)
  var queueTimeout: Double?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      """
      Seconds after which a path that nothing is heard of counts as lost, 0.5 to 600; what is on it goes on by \
      another then. Without it 10. An idle path has a message each way in a fifth of it.
      """, valueName: "SECONDS"))
  var silence: Double?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      With ublk: how many queues the kernel has, at most 64; without it one for each processor, at \
      most 4. With nbd: how many sockets, and queues, it has; without it 1. With vhost-user: how many a \
      machine may have; without it 16.
      """,
      valueName: "N"))
  var queues: Int?

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      With ublk and nbd: what becomes of the device when the process that serves it dies: fail, it goes; \
      queue, with ublk only, another process serves it on, and what was under way ends with I/O errors; \
      reissue, what was under way is done again, too.
      """, valueName: "WHAT"))
  var recovery = DeviceRecovery.fail

  @Flag(
    name: .long,
    help: """
      With vhost-user: takes a machine's memory that is not sealed: its emulator could end the \
      process that serves it.
      """)
  var unsealedMemory = false

  @Flag(name: .long, help: .private) var recover = false
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if let queueTimeout, !(queueTimeout > 0 && queueTimeout < 1e9) {
      throw ValidationError(
        "expected --queue-timeout of more than 0 and less than 1000000000 seconds, got "
          + "\(queueTimeout)")
    }
    if let silence, !(0.5...600).contains(silence) {
      throw ValidationError("expected --silence of 0.5 to 600 seconds, got \(silence)")
    }
    if let queues, !(1...64).contains(queues) {
      throw ValidationError("expected --queues of 1 to 64, got \(queues)")
    }
    if let name {
      guard Self.isName(name) else {
        throw ValidationError(
          "expected --name of 1 to 64 letters, digits, \".\", \"_\" and \"-\", of which the first "
            + "is no \".\", got \"\(name)\"")
      }
    }
    if connection.emulate != nil {
      throw ValidationError(
        "expected no --emulate: attach speaks with addresses that the unit was given with --listen")
    }
  }

  /// Of the arguments of a process, those for the one that serves the device on after it: that one is
  /// told the entry's name and place anew.
  static func forAnother(_ arguments: [String]) -> [String] {
    let valued = ["--name", "--state-dir"]
    var kept: [String] = []
    var isValue = false
    for argument in arguments {
      if isValue {
        isValue = false
      } else if valued.contains(argument) {
        isValue = true
      } else if !["--json", "--foreground", "--recover"].contains(argument),
        !valued.contains(where: { argument.hasPrefix("\($0)=") })
      {
        kept.append(argument)
      }
    }
    return kept
  }

  private static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count) && !text.hasPrefix(".")
      && text.unicodeScalars.allSatisfy(isOfName)
  }

  private static func isOfName(_ scalar: Unicode.Scalar) -> Bool {
    scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
      || scalar == "." || scalar == "_" || scalar == "-"
  }

  /// What was named, and with `--all-paths` what the unit names. The first is the one that was named
  /// first.
  func addresses() async throws -> [VolumeAddress] {
    var addresses: [VolumeAddress] = []
    for url in urls {
      let address = try await connection.volumeAddress(url)
      guard !addresses.contains(address) else {
        throw ToolFailure(64, "expected each URL once, got \(address) twice; leave one out")
      }
      addresses.append(address)
    }
    if allPaths {
      let listing = try await connection.listing(of: addresses[0])
      for path in listing.paths(to: addresses[0]) where !addresses.contains(path) {
        addresses.append(path)
      }
    }
    guard addresses.count <= RemoteVolumeQueue.maximumPathCount else {
      throw ToolFailure(
        64,
        "expected at most \(RemoteVolumeQueue.maximumPathCount) paths, got \(addresses.count)")
    }
    return addresses
  }

  /// One adapter for each fabric of the addresses.
  private func adapters(for addresses: [VolumeAddress]) throws(ToolFailure) -> [any Adapter] {
    var adapters: [any Adapter] = []
    for address in addresses
    where !adapters.contains(where: { $0.fabric == address.unit.fabric }) {
      adapters.append(try connection.adapter(for: address))
    }
    return adapters
  }

  /// Of `--as vhost-user:SOCKET`, the socket; nil: something else was asked for.
  var vhostUserPath: String? {
    guard kind.hasPrefix("vhost-user:"), case let path = kind.dropFirst("vhost-user:".count),
      !path.isEmpty
    else { return nil }
    return FileKind.absolutePath(String(path))
  }

  /// The end to use, and why that one.
  func end() throws(ToolFailure) -> (end: DeviceEnd, reason: String) {
    let names = DeviceEnd.all.map(\.name)
    if kind == "auto" {
      var reasons: [String] = []
      for end in DeviceEnd.all {
        switch end.look() {
        case .present(let words):
          return (end, (reasons + ["\(end.name): \(words)"]).joined(separator: "; "))
        case .missing(let words): reasons.append("\(end.name): \(words)")
        }
      }
      throw ToolFailure(
        71, "this machine can make no device: \(reasons.joined(separator: "; "))")
    }
    if vhostUserPath != nil { return (.vhostUser, "it was asked for") }
    guard let end = DeviceEnd.all.first(where: { $0.name == kind }) else {
      throw ToolFailure(
        64,
        "expected --as \(names.joined(separator: ", ")), vhost-user:SOCKET or auto, got \(kind)")
    }
    switch end.look() {
    case .present(let words): return (end, words)
    case .missing(let words): throw ToolFailure(71, words)
    }
  }

  func settings(for addresses: [VolumeAddress], end: DeviceEnd) throws(ToolFailure)
    -> DeviceDaemon.Settings
  {
    let volume = try connection.options(access: readOnly ? .readOnly : .readWrite)
    var options = RemoteVolumeQueue.Options()
    options.hostName = volume.hostName
    options.key = volume.key
    options.access = volume.access
    options.queueTimeout = queueTimeout.map { .seconds($0) }
    options.heartbeat = silence.map { .seconds($0 / 5) }
    options.policy = policy
    options.isPatientWithOthers = true
    options.isPatientAtFirst = connection.timeout != nil || recover
    options.attemptTimeout = volume.attemptTimeout
    options.log = { DeviceLog.line($0) }
    try checkEnd(end)
    // What devices lock has its price; elsewhere only what is used is there.
    let depth = addresses.contains { $0.unit.fabric == "rdma" } ? 32 : 128
    return DeviceDaemon.Settings(
      addresses: addresses, adapters: try adapters(for: addresses), options: options,
      timeout: recover ? nil : connection.timeout.map { .seconds($0) }, end: end,
      makeVolume: maker(of: end, for: addresses, depth: depth),
      isServedOn: recovery != .fail || end.name == DeviceEnd.vhostUser.name, recovers: recover)
  }

  /// Options that go with some ends only.
  private func checkEnd(_ end: DeviceEnd) throws(ToolFailure) {
    switch (end.name, recovery) {
    case (_, .fail), (DeviceEnd.ublk.name, _): break
    case (DeviceEnd.nbd.name, .reissue):
      guard queues ?? 1 == 1 else {
        throw ToolFailure(
          64, "expected --queues 1 with --as nbd --recovery reissue, got \(queues ?? 1)")
      }
    case (DeviceEnd.nbd.name, .queue):
      throw ToolFailure(64, "expected --recovery fail or reissue with --as nbd, got queue")
    default:
      throw ToolFailure(64, "expected --recovery with --as ublk or nbd, got \(end.name)")
    }
    guard end.name != DeviceEnd.loop.name || queues == nil else {
      throw ToolFailure(
        64, "expected --queues with --as ublk, nbd or vhost-user, got \(end.name)")
    }
    guard end.name == DeviceEnd.vhostUser.name || !unsealedMemory else {
      throw ToolFailure(
        64, "expected --unsealed-memory with --as vhost-user, got \(end.name)")
    }
  }

  private func maker(
    of end: DeviceEnd, for addresses: [VolumeAddress], depth: Int
  ) -> (
    CompletionService, RemoteVolumeQueue.Options, @escaping @Sendable (HostVolumeEvent) -> Void
  ) -> any HostVolume {
    switch end.name {
    case DeviceEnd.ublk.name:
      var shape = UBLKVolume.Settings()
      shape.queueCount = queues ?? min(4, max(1, ProcessInfo.processInfo.activeProcessorCount))
      shape.depth = depth
      shape.recovery = recovery
      shape.recovers = recover
      return { UBLKVolume(service: $0, options: $1, settings: shape, tell: $2) }
    case DeviceEnd.nbd.name:
      var shape = NBDVolume.Settings()
      shape.socketCount = queues ?? 1
      shape.depth = depth
      shape.recovery = recovery
      shape.recovers = recover
      return { NBDVolume(service: $0, options: $1, settings: shape, tell: $2) }
    case DeviceEnd.vhostUser.name:
      var shape = VhostUserBlock.Options()
      shape.queueCount = queues ?? 16
      shape.takesUnsealedMemory = unsealedMemory
      shape.copiesWrites = addresses.contains(where: makesSums)
      shape.log = { DeviceLog.line($0) }
      let path = vhostUserPath ?? ""
      return { service, options, tell in
        var shape = shape
        shape.volume = options
        return VhostUserVolume(service: service, path: path, options: shape, tell: tell)
      }
    default: return { LoopVolume(service: $0, options: $1, depth: depth, tell: $2) }
    }
  }

  /// Whether sums are made of what is written, which is sent later. (VU-47)
  private func makesSums(_ address: VolumeAddress) -> Bool {
    guard address.unit.fabric == "tcp" else { return false }
    switch connection.tcp.checksums {
    case .never: return false
    case .always: return true
    case .automatic:
      let found = try? InternetAddress.resolve(address.unit.endpoint)
      return found?.allSatisfy(\.isLoopback) != true
    }
  }

  /// A name for a device of a volume.
  static func proposedName(for address: VolumeAddress) -> String {
    let scalars = address.volumeName.unicodeScalars.map { isOfName($0) ? $0 : "_" }
    let text = String(String.UnicodeScalarView(scalars))
    return text.hasPrefix(".") ? "_" + text : text
  }
}
