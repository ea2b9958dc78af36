import ArgumentParser
import FabricHostDriver
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Glibc

/// A failure with its exit code.
struct ToolFailure: Error {
  let code: Int32
  let words: String

  init(_ code: Int32, _ words: String) {
    self.code = code
    self.words = words
  }

  init(_ error: RemoteVolumeError) {
    words = error.description
    code =
      switch error {
      case .resource: 71
      case .unreachable, .volumeChanged: 69
      case .timedOut: 75
      case .closed, .failed: 74
      }
  }
}

/// Lines to the standard streams, at once.
enum Output {
  static func line(_ text: String) { write(text + "\n", to: 1) }
  static func error(_ text: String) { write(text + "\n", to: 2) }

  static func write(_ text: String, to descriptor: CInt) {
    var text = text
    text.withUTF8 { bytes in _ = unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
  }
}

/// Runs a command's work and ends the process with one line and a code when it fails.
func reporting(_ body: () async throws -> Void) async {
  signal(SIGPIPE, SIG_IGN)
  // ^C ends at once: connections are closed by the system, and the unit frees what was ours.
  signal(SIGINT) { _ in
    Output.error("\ninterrupted")
    _exit(130)
  }
  var failure: ToolFailure
  do {
    return try await body()
  } catch let error as ToolFailure {
    failure = error
  } catch let error as RemoteVolumeError {
    failure = ToolFailure(error)
  } catch let error as VolumeAddress.ParsingError {
    failure = ToolFailure(64, error.description)
  } catch {
    failure = ToolFailure(74, "\(error)")
  }
  Output.error("error: \(failure.words)")
  exit(failure.code)
}

/// What every command that connects takes.
struct ConnectionOptions: ParsableArguments {
  @Option(
    name: .long,
    help: """
      Seconds to do without a connection or an answer before giving up. Without it the first \
      attempt to connect must succeed, and a lost connection is waited for, for ever.
      """)
  var timeout: Double?

  @Option(name: .long, help: "What this host calls itself: at most 64 bytes.")
  var hostName: String?

  @Flag(
    name: .long,
    help: """
      Shared memory: lets a unit that was started with --direct write straight into this host's       buffers. Saves the host a copy; trusts the unit with those buffers.
      """)
  var direct = false

  func validate() throws {
    if let timeout, !(timeout > 0 && timeout < 1e9) {
      throw ValidationError("expected --timeout of more than 0 seconds, got \(timeout)")
    }
  }

  func options(access: VolumeAccess, depth: Int = 128) -> RemoteVolume.Options {
    var options = RemoteVolume.Options()
    options.access = access
    options.depth = depth
    if let timeout {
      options.timeout = .seconds(timeout)
      options.isPatientAtFirst = true
      options.attemptTimeout = min(.seconds(5), .seconds(timeout))
    }
    if let hostName { options.hostName = hostName }
    options.log = { Output.error($0) }
    return options
  }

  func attach(
    _ text: String, access: VolumeAccess
  ) async throws -> RemoteVolume {
    let address = try VolumeAddress(parsing: text)
    return try await RemoteVolume.attach(
      address, adapter: try adapter(for: address, isDirect: direct),
      options: options(access: access))
  }
}

/// The adapter for an address's fabric.
func adapter(for address: VolumeAddress, isDirect: Bool) throws -> any Adapter {
  guard address.unit.fabric == "shm" else {
    throw ToolFailure(
      69,
      "expected an address that this release can reach, got fabric \"\(address.unit.fabric)\"; "
        + "use fabric+shm://")
  }
  do {
    return try SharedMemoryAdapter(SharedMemoryOptions(mode: isDirect ? .direct : .isolated))
  } catch { throw ToolFailure(71, "\(error)") }
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
