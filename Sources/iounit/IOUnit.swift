import ArgumentParser
import FabricCommandLine
import FabricAuthentication
import FabricIOUnit
import FabricMessaging
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricVerbs
import Glibc

@main
struct IOUnitTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iounit",
    abstract: "Serves volumes to hosts.",
    discussion: """
      Exit codes: 0 ended by SIGINT, SIGTERM or, without --keys, SIGHUP, 64 wrong use, 66 a volume cannot be opened, \
      69 the address cannot be listened at, 71 the system lacks something.
      """,
    version: "iounit \(Release.version)",
    subcommands: [Serve.self, Key.self])

  static func main() {
    var command = commandFromArguments(
      repeatable: [
        "--volume", "--listen", "--i2o", "--nbd", "--nvme-tcp", "--nvme-rdma", "--allow", "--nic",
      ])
    do { try command.run() } catch { end(because: error) }
  }
}

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serves volumes until it is interrupted.",
    discussion: """
      Prints a line that begins with "ready" once hosts can connect. SIGINT and SIGTERM end it in \
      order. With --keys SIGHUP has it read the keys again: hosts that connect from then on prove \
      one of the new, those that are connected stay, and where the file is bad the old keys do. \
      Without, SIGHUP (its terminal was closed) ends it too, unless it was started with nohup. SIGUSR1 \
      has it look at the volumes' files: one that has grown is served with all its blocks.

      Example: iounit serve --volume disk=/var/lib/disk.img,size=10GiB \
      --listen shm:/run/user/1000/unit.sock --listen tcp:127.0.0.1:4420
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A volume; may be given several times.",
      discussion: """
        size makes the file when there is none, and must be its size when there is one; block is \
        512 or 4096; readonly refuses writes; preallocate takes the file's space at once; memory \
        volumes must fit what is available of the machine's memory, all together; \
        fault=delay=1ms or fault=error=write:mediaWriteError:nth=2 is for drills.
        """,
      valueName: VolumeArgument.synopsis))
  var volume: [VolumeArgument] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where to listen; may be given several times.",
      discussion: """
        An IPv6 address goes in brackets; port 0 lets the system choose one. A name is listened at \
        with all its addresses. 0.0.0.0 is every address of IPv4, [::] every one of IPv6 and of \
        that only: both may be given with one port. rdma: is for RDMA devices, by an address of \
        theirs (iohost discover --fabrics). Hosts may use a volume through several addresses at \
        once: state=non-optimised tells them that others are better, state=inaccessible to use others \
        only. For drills delay=1ms has answers wait, and cut=5s has the paths \
        cut at random, so often on average, and healed again: cut=5s:SEED repeats what the log names.
        """,
      valueName: Self.placeSynopsis))
  var listen: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where to serve I2O hosts; may be given several times, with or without --listen.",
      discussion: """
        Addresses as those of --listen, and others than those. The volumes are devices of random \
        block storage. Keys and --allow are as for --listen. The hosts are iohost --emulate i2o.
        """,
      valueName: Self.listenSynopsis))
  var i2o: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where to serve NBD clients; may be given several times, with or without --listen.",
      discussion: """
        Such as 127.0.0.1:10809, [::1]:10809 or unix:/run/user/1000/nbd.sock; port 0 lets the system \
        choose one. A volume's name is the export's; the empty name is that of the only volume. NBD \
        has no keys: an address that other machines can reach takes --insecure.
        """,
      valueName: Self.nbdSynopsis))
  var nbd: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where to serve NVMe/TCP hosts; may be given several times, with or without --listen.",
      discussion: """
        Such as 127.0.0.1:4420; the usual port of discovery is 8009. Port 0 lets the system choose \
        one. The volumes are namespaces 1, 2, ... in the order given. NVMe hosts prove no keys here: \
        an address that other machines can reach takes --insecure.
        """,
      valueName: Self.nvmeSynopsis))
  var nvmeTcp: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where to serve NVMe/RDMA hosts; may be given several times, with or without --listen.",
      discussion: """
        tcp: is for hosts with a software iWARP device (siw): the unit needs none, a socket of an \
        ordinary user's is enough. rdma: is for RDMA devices, by an address of theirs (iohost discover \
        --fabrics). The volumes are those of --nvme-tcp; so are the rules.
        """,
      valueName: Self.nvmeRDMASynopsis))
  var nvmeRdma: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A network interface for hosts, at the addresses of --listen; may be given several times.",
      discussion: """
        tap joins its hosts to a TAP interface of this machine, which is made where it is not there, \
        interface to one that is there, and switch only to each other. Each host may send from one \
        address, its own, or from as many as addresses says, and so many broadcasts a second. mtu is the \
        hosts', too. It wants root but for switch. Hosts use iohost nic attach.
        """,
      valueName: NICArgument.synopsis))
  var nic: [NICArgument] = []

  @Option(
    name: .long,
    help: "The name of the NVM subsystem that hosts connect to: nqn., year-month, domain and more.")
  var nqn = NVMSubsystem.Options().name

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Serves only hosts that prove a key of this file.",
      discussion: """
        A line for each host: what it calls itself, and its key in base64 or hexadecimal digits. \
        iounit key NAME makes one. Nobody but the owner may read the file. SIGHUP has it read again.
        """,
      valueName: "FILE"))
  var keys: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What a host may use, with --keys, or who has none; may be given several times.",
      discussion: """
        * stands for every host with a key, or every volume and NIC; :ro lets it read only. A NIC's name stands \
        where a volume's does. Several add up, \
        and what none allows is not there for a host. Without --allow every host with a key may use \
        all. NBD clients are the host "nbd", which * does not stand for: once there is any --allow \
        they may use what is allowed to that name. So it is with NVMe hosts, by their NQNs. With --listen \
        or --i2o it takes --keys, and a rule for a host with a key.
        """,
      valueName: AllowArgument.synopsis))
  var allow: [AllowArgument] = []

  @Flag(
    name: .long,
    help: """
      Listens at addresses that other machines can reach also without --keys, and for NBD and NVMe: \
      whoever gets there reads and writes the volumes.
      """)
  var insecure = false

  @OptionGroup var tcp: ChecksumOptions

  @Option(name: .long, help: "What the unit calls itself: at most 64 bytes.")
  var name = IOUnitServer.Options().unitName

  @Option(
    name: .long, parsing: .unconditional, help: "Requests in flight on one connection: 1 to 1024.")
  var depth = IOUnitServer.Options().depth

  @Option(
    name: .long, parsing: .unconditional,
    help: "Buffers of 128 KiB that each connection of a host's may write to: 2 to 256.")
  var buffers = IOUnitServer.Options().bufferCount

  @Flag(
    name: .long,
    help: """
      Shared memory: hosts that ask for it too write straight into the unit's buffers, and the \
      unit into theirs. Trusts these hosts with that memory.
      """)
  var direct = false

  @Flag(name: .long, help: "Says nothing about connections.")
  var quiet = false

  func run() throws {
    let signals = Signals(takesHangUp: keys != nil)
    let (serving, layer, keyring) = try start()
    // Hosts are served also when nobody reads this.
    try? Output.write(
      "ready: \(contents) at "
        + serving.places.joined(separator: ", ") + "\n", to: 1)
    wait: while true {
      switch signals.wait() {
      case SIGUSR1: growVolumes(of: layer)
      case SIGHUP:
        guard let keyring else { break wait }
        readKeysAgain(into: keyring)
      default: break wait
      }
    }
    Output.error("stopping")
    serving.stop()
  }

  /// How much of what is served.
  private var contents: String {
    let volumes = "\(volume.count) volume\(volume.count == 1 ? "" : "s")"
    if nic.isEmpty { return volumes }
    let nics = "\(nic.count) NIC\(nic.count == 1 ? "" : "s")"
    return volume.isEmpty ? nics : "\(volumes) and \(nics)"
  }

  /// Says which volumes have become larger.
  private func growVolumes(of layer: CommonLayer) {
    let grown = layer.growVolumes()
    for volume in grown { log("\(volume.name): \(ByteSize.describe(volume.byteCount)) now") }
    for volume in layer.volumes {
      guard let actual = volume.file?.actualByteCount else { continue }
      if actual < volume.byteCount {
        log(
          "warning: \(volume.name): its file has \(actual) bytes now, fewer than the \(volume.byteCount) "
            + "that are served, and what hosts read there fails; make it as large again")
      } else if actual > volume.byteCount {
        log(
          "\(volume.name): its file has \(actual) bytes, of which whole blocks are served: "
            + "\(volume.byteCount)")
      }
    }
    if grown.isEmpty { log("no volume has more blocks than before") }
  }

  private func start() throws(ToolFailure) -> (Serving, CommonLayer, ReplaceableKeyring?) {
    let places = try parsePlaces()
    let addresses = places.map(\.address)
    let i2oAddresses = try parseI2OAddresses()
    let nbdAddresses = try parseNBDAddresses()
    let nvmeAddresses = try parseNVMeAddresses()
    let nvmeRDMAAddresses = try parseNVMeRDMAAddresses()
    try checkArguments(addresses + i2oAddresses)
    try checkPlaces([
      ("--listen", addresses.map(\.place)), ("--i2o", i2oAddresses.map(\.place)),
      ("--nbd", nbdAddresses.map(\.place)), ("--nvme-tcp", nvmeAddresses.map(\.place)),
      ("--nvme-rdma", nvmeRDMAAddresses.map(\.place)),
    ])
    var options = IOUnitServer.Options()
    let keys = try readKeys()
    let keyring = keys.map { ReplaceableKeyring($0) }
    options.keys = keyring
    let rights = try readRights(keys)
    options.rights = rights.hosts
    try checkMemory()
    if let service = try serveNICs(rights.hosts) { options.services = [service] }
    let carrier = try Carrier(adapters: try adapters(for: addresses))
    var opened: [Volume] = []
    var serving = Serving(carrier)
    let layer = CommonLayer()
    do throws(ToolFailure) {
      for argument in volume { opened.append(try open(argument, on: carrier, for: layer)) }
      if let fabric = carrier.fabric {
        serving.add(try listen(at: places, layer, fabric, options))
      }
      for server in try serveI2O(at: i2oAddresses, layer, carrier, options) {
        serving.add(server)
      }
      if !nbdAddresses.isEmpty {
        serving.add(try serveNBD(at: nbdAddresses, layer, carrier, rights.nbd))
      }
      if servesNVMe {
        serving.add(
          try serveNVMe(
            opened, at: nvmeAddresses, overRDMA: nvmeRDMAAddresses, layer, carrier, rights.nvme))
      }
      return (serving, layer, keyring)
    } catch {
      serving.stop()
      // Files that were made for nothing would stand in the way, or be taken for volumes.
      for volume in opened { volume.file?.removeIfNew() }
      throw error
    }
  }

  func adapters(for addresses: [FabricAddress]) throws(ToolFailure) -> [any Adapter] {
    let choice = fabricChoice(reachesOthers: reachesOthers)
    let first = FabricChoice.names.compactMap { name in addresses.first { $0.fabric == name } }
    do {
      return try first.map { try choice.adapter(for: $0.fabric, at: $0, isListening: true) }
    } catch let failure as ToolFailure {
      throw failure
    } catch { throw ToolFailure(71, "\(error)") }
  }

  func fabricChoice(reachesOthers: Bool) -> FabricChoice {
    FabricChoice(
      isDirect: direct, checksums: tcp.checksums, listensBeyondLoopback: reachesOthers, log: log)
  }

  /// Pages are taken when they are first written, so that nothing else would refuse what the
  /// machine does not have until it kills.
  private func checkMemory() throws(ToolFailure) {
    var sum: UInt64 = 0
    for size in volume.filter(\.isMemory).compactMap(\.byteCount) {
      let (now, isTooMuch) = sum.addingReportingOverflow(size)
      sum = isTooMuch ? .max : now
    }
    guard let available = SystemMemory.availableByteCount, sum > available else { return }
    throw ToolFailure(
      71,
      "expected memory volumes of at most \(available >> 20)MiB together, which is what this machine "
        + "has available, got \(ByteSize.describe(sum)); give less, or keep them in files")
  }

  private func open(
    _ argument: VolumeArgument, on carrier: Carrier, for layer: CommonLayer
  ) throws(ToolFailure) -> Volume {
    let volume: Volume
    do throws(StoreError) {
      volume = try argument.open(on: carrier.fabric)
    } catch {
      if case .sizeNotWhole = error { throw ToolFailure(64, "\(error)") }
      if case .memoryRefused = error { throw ToolFailure(71, "\(error)") }
      throw ToolFailure(66, "\(error)")
    }
    if let wanted = argument.byteCount, volume.byteCount != wanted {
      volume.file?.removeIfNew()
      throw ToolFailure(
        64,
        "expected \(argument.path) of the size given, \(wanted) bytes, but it is there with "
          + "\(volume.byteCount): leave size= out to serve it as it is, or change it first")
    }
    do throws(CommonLayerError) {
      try layer.add(volume)
    } catch {
      volume.file?.removeIfNew()
      throw ToolFailure(66, "\(error)")
    }
    if !quiet {
      Output.error(
        "\(volume.name): \(ByteSize.describe(volume.byteCount)) in blocks of "
          + "\(volume.blockByteCount), \(volume.store.accessDescription)")
    }
    return volume
  }

  /// Where what happens is told; nowhere with `--quiet`.
  var log: @Sendable (String) -> Void {
    if quiet { return { _ in } }
    return { Output.error($0) }
  }

  private func listen(
    at places: [ListeningPlace], _ layer: CommonLayer, _ fabric: UnitFabric,
    _ options: IOUnitServer.Options
  ) throws(ToolFailure) -> IOUnitServer {
    var options = options
    options.unitName = name
    options.depth = depth
    options.bufferCount = buffers
    options.log = log
    do {
      return try IOUnitServer(layer: layer, fabric: fabric, places: places, options: options)
    } catch {
      switch error {
      case .registration(.refused), .resource(.refused): throw ToolFailure(71, "\(error)")
      default: throw ToolFailure(69, "\(error)")
      }
    }
  }
}

extension Volume {
  /// The file that it is kept in, if it is.
  fileprivate var file: FileStore? { ((store as? FaultStore)?.base ?? store) as? FileStore }
}
