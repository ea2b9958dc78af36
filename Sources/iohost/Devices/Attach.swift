import ArgumentParser
import CFabricLinux
import FabricCommandLine
import FabricHostDevices
import FabricHostDriver
import FabricPlatform
import Glibc

struct Attach: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes a volume a block device of this machine, or the disk of a virtual one.",
    discussion: """
      Examples: iohost attach fabric+tcp://HOST:PORT/disk --as loop
                iohost attach fabric+tcp://HOST:PORT/disk fabric+tcp://OTHER:PORT/disk
                iohost attach fabric+tcp://HOST:PORT/disk --as vhost-user:/tmp/disk.sock

      Several URLs are several paths to one volume: requests go by them as --policy says, and \
      a path that is lost disturbs no other.

      It prints the device, such as /dev/loop3, or the socket, which is there until iohost detach, or \
      SIGTERM to its process. Block devices want root. A connection that is lost is made again; meanwhile requests wait. \
      --timeout is for all until there is a device, --queue-timeout for what comes after it. iohost list shows \
      what is attached.
      """)

  @OptionGroup var arguments: AttachArguments

  func run() async {
    if arguments.foreground { return await AttachWorker.serve(arguments, inForeground: true) }
    await reporting {
      let (end, reason) = try arguments.end()
      if arguments.kind == "auto", !arguments.json {
        Output.error("as \(end.name), because \(reason)")
      }
      let worker = try Descendant.start(
        ["iohost", AttachWorker.configuration.commandName ?? ""]
          + CommandLine.arguments.dropFirst(2).filter { $0 != "--json" })
      let answer = try Self.report(of: worker)
      guard let status = try answer.get(), let device = status.device else {
        throw ToolFailure(71, "expected a device, got none; see the log")
      }
      if arguments.json {
        Output.line(status.json.description)
      } else {
        Output.line(device)
      }
      status.noteTroubles()
    }
  }

  /// Waits until the process says how it went, or ends.
  private static func report(of worker: Descendant) throws(ToolFailure) -> ControlAnswer {
    _ = ControlPacket.wait(on: worker.socket.descriptor.rawValue, seconds: nil)
    if let answer = ControlPacket.receive(ControlAnswer.self, on: worker.socket) { return answer }
    worker.join()
    throw ToolFailure(
      71, "expected the device's process to say how it went, but it ended without a word")
  }
}

/// The process that `iohost attach` starts.
struct AttachWorker: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach-worker", abstract: "Serves a device.", shouldDisplay: false)

  @OptionGroup var arguments: AttachArguments

  func run() async { await Self.serve(arguments, inForeground: false) }

  static func serve(_ arguments: AttachArguments, inForeground: Bool) async {
    umask(0o077)
    let socket = inForeground ? nil : SequencedSocket(connected: Descendant.descriptor)
    if !inForeground {
      _ = fabric_set_close_on_exec(Descendant.descriptor)
      signal(SIGPIPE, SIG_IGN)
    }
    let tell = Reporter(socket, isJSON: arguments.json)
    // Where the words go that end it: to the log, once there is one; who waits has them, too.
    var hasLog = inForeground
    do {
      let (end, reason) = try arguments.end()
      if inForeground, arguments.kind == "auto", !arguments.json {
        Output.error("as \(end.name), because \(reason)")
      }
      let addresses = try await arguments.addresses()
      let settings = try arguments.settings(for: addresses, end: end)
      let directory = try StateDirectory(arguments.stateDir)
      let claim =
        if arguments.recover, let name = arguments.name {
          try directory.adopt(name: name)
        } else {
          try directory.claim(
            name: arguments.name, proposal: AttachArguments.proposedName(for: addresses[0]))
        }
      do {
        if !inForeground {
          try claim.redirectOutput()
          hasLog = true
        }
        // No file system is kept from being unmounted.
        unsafe chdir("/")
        let daemon = try DeviceDaemon(
          settings, claim: claim,
          reportDescriptor: inForeground ? -1 : Descendant.descriptor
        ) { result in if case .success(let status) = result { tell.success(status) } }
        try daemon.run()
      } catch {
        claim.remove()
        guard let error = error as? RemoteVolumeError else { throw error }
        let access = settings.options.access
        let refusal = await arguments.connection.refusal(error, wanted: access)
        guard let failure = refusal as? ToolFailure else { throw refusal }
        throw ToolFailure(failure.code, "\(failure.words); or attach it with --read-only")
      }
    } catch {
      let failure =
        (error as? HostDeviceError).map { ToolFailure($0) } ?? ToolFailure(anything: error)
      tell.failure(failure)
      guard hasLog else { Glibc.exit(failure.code) }
      failure.exit()
    }
  }

  /// Tells who waits how the start went, once.
  private final class Reporter {
    private let isJSON: Bool
    private let isForeground: Bool
    private var socket: SequencedSocket?

    init(_ socket: SequencedSocket?, isJSON: Bool) {
      self.socket = socket
      self.isJSON = isJSON
      isForeground = socket == nil
    }

    func success(_ status: DeviceStatus) {
      if isForeground {
        Output.line(isJSON ? status.json.description : status.device ?? "")
        status.noteTroubles()
      } else {
        send(ControlAnswer(status))
      }
    }

    func failure(_ failure: ToolFailure) { send(ControlAnswer(failure)) }

    private func send(_ answer: ControlAnswer) {
      try? socket?.send(ControlPacket.encode(answer))
      socket = nil
    }
  }
}

extension DeviceStatus {
  /// Says which paths are missing at the start: one that was meant for another volume is not to go unseen.
  fileprivate func noteTroubles() {
    for path in paths where path.state == "waiting" || path.state == "given up" {
      if let trouble = path.trouble { Output.error("not a path yet: \(trouble)") }
    }
  }
}
