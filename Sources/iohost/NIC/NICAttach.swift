import ArgumentParser
import CFabricLinux
import FabricCommandLine
import FabricHostDriver
import FabricNIC
import FabricNICHost
import FabricPlatform
import FabricStorage
import FabricVerbs
import Glibc

/// What `iohost nic attach` takes, and the process that it starts.
struct NICArguments: ParsableArguments {
  @Argument(help: "The NIC, by the unit's address and its name there.") var url: String

  @Option(
    name: .long,
    help: "What the interface is called: 1 to 15 bytes. One that is there must be a TAP interface.")
  var name: String

  @Option(
    name: .long,
    help: ArgumentHelp("Queues of the interface: 1 to 16.", valueName: "N"))
  var queues = 1

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The interface's address, which no other host may have; without it the kernel's choice.",
      valueName: "MAC"))
  var mac: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Buffers of 128 KiB for what the unit sends: 2 to 256.", valueName: "N"))
  var buffers = HostNIC.Options().bufferCount

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "Seconds after which a unit that nothing is heard of counts as gone, 0.5 to 600.",
      valueName: "SECONDS"))
  var silence = 10.0

  @Flag(
    name: .long,
    help: "Stays in the foreground until ^C or SIGTERM, and logs to the standard error.")
  var foreground = false

  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var place: NICPlace
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (1...FramePort.maximumQueueCount).contains(queues) else {
      throw ValidationError("expected --queues of 1 to 16, got \(queues)")
    }
    guard (2...256).contains(buffers) else {
      throw ValidationError("expected --buffers of 2 to 256, got \(buffers)")
    }
    guard (0.5...600).contains(silence) else {
      throw ValidationError("expected --silence of 0.5 to 600 seconds, got \(silence)")
    }
    if let mac, MACAddress(mac)?.isOfStation != true {
      throw ValidationError(
        "expected --mac with the address of a station, such as 02:00:5e:10:00:01, got \"\(mac)\"")
    }
    do { _ = try NetworkInterface(name) } catch { throw ValidationError("--name: \(error)") }
    if connection.emulate != nil {
      throw ValidationError(
        "expected no --emulate: nic speaks with addresses that the unit was given with --listen")
    }
  }

  /// Reads the URL of a NIC.
  static func address(of url: String) throws -> VolumeAddress {
    let unit: VolumeAddress
    do throws(VolumeAddress.ParsingError) {
      let address = try VolumeAddress(parsing: url)
      let path = "\(address.unit.endpoint)/\(address.volumeName)"
      guard address.unit.fabric == "shm", FileKind.isSocket(path) else { return address }
      unit = try VolumeAddress(parsingUnit: url)
    } catch {
      guard url.contains("://"), let found = try? VolumeAddress(parsingUnit: url) else {
        throw error
      }
      unit = found
    }
    throw ToolFailure(
      64,
      "expected a NIC's URL, got that of a unit; append / and the NIC's name there, such as \(unit)/lan0"
    )
  }

  func options(for address: VolumeAddress) throws(ToolFailure) -> HostNIC.Options {
    let volume = try connection.options(access: .readWrite)
    var options = HostNIC.Options()
    options.nicName = address.volumeName
    options.hostName = volume.hostName
    options.key = volume.key
    options.heartbeat = .seconds(silence / 5)
    options.bufferCount = buffers
    options.attemptTimeout = volume.attemptTimeout
    options.isPatientAtFirst = connection.timeout != nil
    options.log = { DeviceLog.line($0) }
    return options
  }
}

struct NICAttach: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach",
    abstract: "Makes an interface of this machine whose port is a unit's NIC.",
    discussion: """
      Prints the interface's name once the unit has taken it. A process carries its frames until iohost \
      nic detach. When the unit is gone the link is down, and the unit is asked again and again; when \
      the process dies the interface stays, with its addresses and no carrier, and the same command takes \
      it up again. It wants root, or a TAP interface that is this user's: ip tuntap add dev NAME mode tap \
      user USER, with multi_queue for more than one of --queues. --timeout is for the first connection alone. \
      The process logs beside what is written down, to DIR/nic/*.NAME.log while it lives; iohost nic list \
      names the file.
      """)

  @OptionGroup var arguments: NICArguments

  func run() async {
    if arguments.foreground { return await NICWorker.serve(arguments, inForeground: true) }
    await reporting {
      let worker = try Descendant.start(
        ["iohost", NICWorker.configuration.commandName ?? ""]
          + CommandLine.arguments.dropFirst(3).filter { $0 != "--json" })
      _ = ControlPacket.wait(on: worker.socket.descriptor.rawValue, seconds: nil)
      guard let answer = ControlPacket.receive(NICAnswer.self, on: worker.socket) else {
        worker.join()
        throw ToolFailure(
          71, "expected the interface's process to say how it went, but it ended without a word")
      }
      Self.say(try answer.get(), asJSON: arguments.json)
    }
  }

  static func say(_ status: NICStatus, asJSON: Bool) {
    Output.line(asJSON ? status.json.description : status.name)
  }
}

/// The process that `iohost nic attach` starts.
struct NICWorker: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nic-worker", abstract: "Carries the frames of an interface.",
    shouldDisplay: false)

  @OptionGroup var arguments: NICArguments

  func run() async { await Self.serve(arguments, inForeground: false) }

  static func serve(_ arguments: NICArguments, inForeground: Bool) async {
    umask(0o077)
    signal(SIGPIPE, SIG_IGN)
    let socket = inForeground ? nil : SequencedSocket(connected: Descendant.descriptor)
    if !inForeground { _ = fabric_set_close_on_exec(Descendant.descriptor) }
    func tell(_ answer: NICAnswer) {
      if let socket {
        try? socket.send(ControlPacket.encode(answer))
        return
      }
      if let status = answer.status { NICAttach.say(status, asJSON: arguments.json) }
    }
    do {
      let address = try NICArguments.address(of: arguments.url)
      let daemon = try NICDaemon(
        arguments, address: address, reportDescriptor: inForeground ? -1 : Descendant.descriptor,
        report: tell)
      try daemon.run()
    } catch {
      let failure =
        (error as? InterfaceError).map { ToolFailure($0.isMisuse ? 64 : 71, $0.description) }
        ?? ToolFailure(anything: error)
      tell(NICAnswer(failure))
      guard inForeground else { Glibc.exit(failure.code) }
      failure.exit()
    }
  }
}
