import ArgumentParser
import FabricIOUnit
import FabricMessaging
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Glibc

@main
struct IOUnitTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iounit",
    abstract: "Serves volumes to hosts.",
    discussion: """
      Exit codes: 0 ended by SIGINT or SIGTERM, 64 wrong use, 66 a volume cannot be opened, \
      69 the address cannot be listened at, 71 the system lacks something.
      """,
    subcommands: [Serve.self])
}

/// A failure with its exit code.
struct ToolFailure: Error {
  let code: Int32
  let words: String

  /// Says what went wrong in one line and ends the process.
  func exit() -> Never {
    FileHandleText.error("error: \(words)")
    Glibc.exit(code)
  }
}

/// Lines to the standard streams, at once.
enum FileHandleText {
  static func output(_ line: String) { write(line, to: 1) }
  static func error(_ line: String) { write(line, to: 2) }

  private static func write(_ line: String, to descriptor: CInt) {
    var text = line + "\n"
    text.withUTF8 { bytes in _ = unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count) }
  }
}

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serves volumes until it is interrupted.",
    discussion: """
      Prints a line that begins with "ready" once hosts can connect.

      Example: iounit serve --volume disk=/var/lib/disk.img,size=10GiB \
      --listen shm:/run/user/1000/unit.sock
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A volume; may be given several times.",
      discussion: """
        size makes the file when there is none; block is 512 or 4096; readonly refuses writes; \
        preallocate takes the file's space at once; fault=delay=1ms or \
        fault=error=write:mediaWriteError:nth=2 is for drills.
        """,
      valueName: "NAME=PATH|memory[,size=1GiB][,readonly][,block=4096][,fault=PLAN]"))
  var volume: [VolumeArgument] = []

  @Option(name: .long, help: ArgumentHelp("Where to listen.", valueName: "shm:PATH"))
  var listen: String

  @Option(name: .long, help: "What the unit calls itself: at most 64 bytes.")
  var name = IOUnitServer.Options().unitName

  @Option(name: .long, help: "Requests in flight on one connection: 1 to 1024.")
  var depth = IOUnitServer.Options().depth

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
    let signals = Signals()
    do throws(ToolFailure) {
      let server = try start()
      FileHandleText.output(
        "ready: \(volume.count) volume\(volume.count == 1 ? "" : "s") at \(server.address)")
      signals.wait()
      FileHandleText.error("stopping")
      server.stop()
    } catch { error.exit() }
  }

  private func start() throws(ToolFailure) -> IOUnitServer {
    let address = try parseAddress()
    guard !volume.isEmpty else {
      throw ToolFailure(
        code: 64, words: "expected at least one volume; add --volume NAME=PATH,size=1GiB")
    }
    guard (1...64).contains(name.utf8.count), (1...1024).contains(depth) else {
      throw ToolFailure(
        code: 64, words: "expected --name of 1 to 64 bytes and --depth of 1 to 1024")
    }
    let fabric: UnitFabric
    do {
      fabric = try UnitFabric(
        try SharedMemoryAdapter(SharedMemoryOptions(mode: direct ? .direct : .isolated)))
    } catch { throw ToolFailure(code: 71, words: "\(error)") }
    let layer = CommonLayer()
    for argument in volume {
      let checked: VolumeArgument
      do {
        checked = try argument.checked()
      } catch { throw ToolFailure(code: 64, words: "\(error)") }
      do {
        let volume = try checked.open(on: fabric)
        try layer.add(volume)
        if !quiet {
          FileHandleText.error(
            "\(volume.name): \(ByteSize.describe(volume.byteCount)) in blocks of "
              + "\(volume.blockByteCount), \(volume.store.accessDescription)")
        }
      } catch { throw ToolFailure(code: 66, words: "\(error)") }
    }
    var options = IOUnitServer.Options()
    options.unitName = name
    options.depth = depth
    if !quiet { options.log = { FileHandleText.error($0) } }
    do {
      return try IOUnitServer(layer: layer, fabric: fabric, address: address, options: options)
    } catch { throw ToolFailure(code: 69, words: "\(error)") }
  }

  private func parseAddress() throws(ToolFailure) -> FabricAddress {
    let parts = listen.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0] == "shm", !parts[1].isEmpty else {
      throw ToolFailure(
        code: 64,
        words: "expected --listen shm:PATH, such as shm:/run/user/1000/unit.sock, "
          + "got \"\(listen)\"")
    }
    return FabricAddress(fabric: "shm", endpoint: String(parts[1]))
  }
}

/// SIGINT and SIGTERM, taken one at a time by the main thread.
struct Signals {
  private var set = sigset_t()

  /// To be made before any thread is: they all inherit that these signals are not for them.
  init() {
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, SIGINT)
    unsafe sigaddset(&set, SIGTERM)
    unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    // A reader of our output that goes away is no reason to end.
    signal(SIGPIPE, SIG_IGN)
  }

  func wait() {
    var number: CInt = 0
    var copy = set
    unsafe sigwait(&copy, &number)
  }
}
