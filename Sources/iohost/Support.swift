import ArgumentParser
import FabricAuthentication
import FabricCommandLine
import FabricHostDevices
import FabricHostDriver
import FabricI2OHost
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import Glibc
import Synchronization

extension ToolFailure {
  init(_ error: RemoteVolumeError) {
    let code: Int32 =
      switch error {
      case .resource: 71
      case .unreachable, .turnedAway, .refused, .foreign, .volumeChanged: 69
      case .unproven: 77
      case .timedOut, .unanswered: 75
      case .notWholeBlocks: 64
      case .closed, .failed: 74
      }
    self.init(code, error.description)
  }

  /// Whatever went wrong, with its code.
  init(anything error: any Error) {
    switch error {
    case let error as ToolFailure: self = error
    case let error as RemoteVolumeError: self.init(error)
    case VhostUserError.listening(let words): self.init(66, words)
    case VhostUserError.system(let words): self.init(71, words)
    case RegistrationError.refused(let words): self.init(71, words)
    case let error as VolumeAddress.ParsingError: self.init(64, error.description)
    default: self.init(74, "\(error)")
    }
  }
}

/// Runs a command's work and ends the process with one line and a code when it fails.
func reporting(_ body: () async throws -> Void) async {
  // A reader of our output that has seen enough ends us quietly, as it ends any filter.
  signal(SIGPIPE, SIG_DFL)
  Interruption.endsAtOnce()
  do {
    try await body()
  } catch { ToolFailure(anything: error).exit() }
}

/// A protocol of others that this host speaks in place of our own.
enum Emulation: String, ExpressibleByArgument, CaseIterable {
  case i2o
}

/// What every command that connects takes.
struct ConnectionOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Speaks another protocol with the unit: i2o.",
      discussion: """
        The URL is that of an address that the unit was given with --i2o. I2O reads, writes and \
        flushes. A connection that is lost is not made again; a request without an answer after \
        --timeout is aborted.
        """))
  var emulate: Emulation?

  @Option(
    name: .long, parsing: .unconditional,
    help: """
      Seconds to do without a connection or an answer before giving up. Without it the first \
      attempt to connect must succeed, and a lost connection is waited for, for ever.
      """)
  var timeout: Double?

  @Option(
    name: .long,
    help: "What this host calls itself: at most 64 bytes. With a key, as that is called.")
  var hostName: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Proves a key of this file, and has the unit prove it, too.",
      discussion: """
        Of several keys --host-name chooses one. Nobody but the owner may read the file. Without it \
        the environment's CHANNELFABRIC_KEY_FILE names one.
        """,
      valueName: "FILE"))
  var keyFile: String?

  @Flag(
    name: .long,
    help: """
      Shared memory: lets a unit that was started with --direct write straight into this \
      host's buffers. Saves the host a copy; trusts the unit with those buffers.
      """)
  var direct = false

  @OptionGroup var tcp: ChecksumOptions

  /// One for each unit, however often a command connects to it: what it logs once is said once.
  private static let adapters = Mutex<[FabricAddress: any Adapter]>([:])

  /// The adapter of an address's fabric.
  func adapter(for address: VolumeAddress) throws(ToolFailure) -> any Adapter {
    guard !direct || address.unit.fabric == "shm" else {
      throw ToolFailure(
        64, "expected --direct with a volume over shared memory, got \(address); leave --direct out"
      )
    }
    return try Self.adapters.withLock { adapters throws(ToolFailure) in
      if let adapter = adapters[address.unit] { return adapter }
      let adapter = try FabricChoice(isDirect: direct, checksums: tcp.checksums, log: log)
        .adapter(for: address.unit.fabric, at: address.unit)
      adapters[address.unit] = adapter
      return adapter
    }
  }

  /// Where it is told how things go; nowhere with `--json`, beside which only failures are told.
  private var log: @Sendable (String) -> Void {
    if CommandLine.arguments.contains("--json") { return { _ in } }
    return { Output.error($0) }
  }

  func validate() throws {
    if let timeout, !(timeout > 0 && timeout < 1e9) {
      throw ValidationError(
        "expected --timeout of more than 0 and less than 1000000000 seconds, got \(timeout)")
    }
    if let hostName, !(1...64).contains(hostName.utf8.count) {
      throw ValidationError(
        "expected --host-name of 1 to 64 bytes, got \(hostName.utf8.count)")
    }
  }

  /// What this host proves; nil without a file of keys.
  func key() throws(ToolFailure) -> PresharedKey? {
    let variable = unsafe getenv("CHANNELFABRIC_KEY_FILE").map { unsafe String(cString: $0) }
    if keyFile?.isEmpty == true {
      throw ToolFailure(64, "expected --key-file with the name of a file, got nothing")
    }
    guard let path = keyFile ?? variable, !path.isEmpty else { return nil }
    let keys: [PresharedKey]
    do throws(KeyFile.Refusal) {
      keys = try KeyFile.read(path)
    } catch { throw ToolFailure(66, error.description) }
    if let key = keys.first(where: { hostName == nil ? keys.count == 1 : $0.name == hostName }) {
      return key
    }
    let names = keys.map(\.name).joined(separator: ", ")
    guard let hostName else {
      throw ToolFailure(
        64, "expected --host-name with one of the names in \(path), which are \(names)")
    }
    throw ToolFailure(
      66, "expected a key of \"\(hostName)\" in \(path), found those of \(names)")
  }

  func options(access: VolumeAccess, depth: Int = 128) throws(ToolFailure) -> RemoteVolume.Options {
    var options = RemoteVolume.Options()
    options.key = try key()
    options.access = access
    options.depth = depth
    if let timeout {
      options.timeout = .seconds(timeout)
      options.isPatientAtFirst = true
      // An attempt ends before all does: what it came to is the reason that is told.
      options.attemptTimeout = .seconds(min(5, timeout * 0.75))
    }
    if let hostName { options.hostName = hostName }
    options.log = { Output.error($0) }
    return options
  }

  func attach(
    _ text: String, access: VolumeAccess
  ) async throws -> RemoteVolume {
    let address = try await volumeAddress(text)
    do {
      let adapter = try adapter(for: address)
      let options = try options(access: access)
      return switch emulate {
      case .i2o: try await I2OVolumes.attach(address, adapter: adapter, options: options)
      case nil: try await RemoteVolume.attach(address, adapter: adapter, options: options)
      }
    } catch let error as RemoteVolumeError {
      throw await refusal(error, wanted: access)
    }
  }

  /// What to say of a volume that could not be attached: one that may only be read has words and a
  /// code of its own.
  func refusal(_ error: RemoteVolumeError, wanted access: VolumeAccess) async -> any Error {
    guard access == .readWrite, case .refused(let address, _) = error,
      let found = try? await listing(of: address).volumes,
      found.contains(where: { $0.name == address.volumeName && $0.access == .readOnly })
    else { return error }
    return ToolFailure(
      77,
      "expected a volume that may be written, \(address) is read-only: have it served without "
        + "readonly, and to this host with --allow that says :rw, or name another")
  }

  private func list(
    _ unit: VolumeAddress, _ adapter: any Adapter, _ host: String, _ key: PresharedKey?,
    _ timeout: Duration
  ) async throws(RemoteVolumeError) -> VolumeDiscovery.Listing {
    switch emulate {
    case .i2o:
      try await I2OVolumes.list(unit, adapter: adapter, hostName: host, key: key, timeout: timeout)
    case nil:
      try await VolumeDiscovery.list(
        unit, adapter: adapter, hostName: host, key: key, timeout: timeout)
    }
  }

  /// What a unit serves. As when a volume is attached, `--timeout` makes it patient.
  func listing(of address: VolumeAddress) async throws -> VolumeDiscovery.Listing {
    let unit = VolumeAddress(unit: address.unit, volumeName: "")
    let adapter = try adapter(for: unit)
    let host = hostName ?? RemoteVolume.Options().hostName
    let key = try key()
    guard let timeout else {
      return try await list(unit, adapter, host, key, .seconds(5))
    }
    let limit = Duration.seconds(timeout)
    let end = ContinuousClock.now + limit
    var backoff = Backoff()
    var random = SystemRandomNumberGenerator()
    while true {
      let rest = end - .now
      do throws(RemoteVolumeError) {
        return try await list(unit, adapter, host, key, min(.seconds(5), rest))
      } catch {
        let reason: String
        switch error {
        case .unreachable(_, let words), .turnedAway(_, let words): reason = words
        default: throw error
        }
        let next = ContinuousClock.now + backoff.next(using: &random)
        if next >= end {
          try? await Task.sleep(until: end)
          throw RemoteVolumeError.timedOut(address: unit, after: limit, reason: reason)
        }
        Output.error("attempt \(backoff.attemptCount) failed, because \(reason)")
        try? await Task.sleep(until: next)
      }
    }
  }
}

extension ConnectionOptions {
  /// Reads a volume's URL. One that stops at the unit is told which volumes it might go on with.
  func volumeAddress(_ text: String) async throws -> VolumeAddress {
    let unit: VolumeAddress
    do throws(VolumeAddress.ParsingError) {
      let address = try VolumeAddress(parsing: text)
      let path = "\(address.unit.endpoint)/\(address.volumeName)"
      guard address.unit.fabric == "shm", FileKind.isSocket(path) else { return address }
      unit = try VolumeAddress(parsingUnit: text)
    } catch {
      // Where a unit is HOST:PORT it is plain to see where its URL ends.
      guard text.contains("://"), let found = try? VolumeAddress(parsingUnit: text),
        found.unit.fabric != "shm"
      else { throw error }
      unit = found
    }
    let listing = try await listing(of: unit)
    let names = listing.volumes.map { $0.name }.joined(separator: ", ")
    throw ToolFailure(
      64,
      "expected a volume's URL, got that of a unit; append / and one of its volumes: "
        + (names.isEmpty ? "it has none" : names))
  }

  /// Reads a unit's URL. One that goes on to a volume is told where to stop.
  func unitAddress(_ text: String) throws -> VolumeAddress {
    // Where a unit is HOST:PORT a volume's URL is plain to see.
    if let volume = try? VolumeAddress(parsing: text), volume.unit.fabric != "shm" {
      let unit = VolumeAddress(unit: volume.unit, volumeName: "")
      throw ToolFailure(64, "expected a unit's URL, got that of a volume; use \(unit)")
    }
    let address = try VolumeAddress(parsingUnit: text)
    guard address.unit.fabric == "shm", let slash = address.unit.endpoint.lastIndex(of: "/"),
      case let path = String(address.unit.endpoint[..<slash]), FileKind.isSocket(path)
    else { return address }
    let unit = VolumeAddress(unit: FabricAddress(fabric: "shm", endpoint: path), volumeName: "")
    throw ToolFailure(64, "expected a unit's URL, got that of a volume; use \(unit)")
  }
}

/// A byte count for people.
func describeBytes(_ byteCount: Double) -> String {
  let names = ["B", "KiB", "MiB", "GiB", "TiB"]
  var value = byteCount
  var index = 0
  while value >= 1024, index + 1 < names.count {
    value /= 1024
    index += 1
  }
  return "\(rounded(value, value < 100 && index > 0 ? 1 : 0)) \(names[index])"
}

/// A number with `digits` digits after the point.
func rounded(_ value: Double, _ digits: Int) -> String {
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let whole = (value * scale).rounded() / scale
  if digits == 0 { return "\(Int(whole))" }
  return "\(whole)"
}
