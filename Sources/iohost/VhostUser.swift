import ArgumentParser
import FabricCommandLine
import FabricCompletion
import FabricHostDevices
import FabricHostDriver
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import Glibc
import Synchronization

/// Offers a volume to a virtual machine.
struct VhostUser: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vhost-user",
    abstract: "Offers a volume to a virtual machine, as the back end of vhost-user-blk.",
    discussion: """
      QEMU connects with -chardev socket,id=c,path=SOCKET,reconnect=1 \
      -device vhost-user-blk-pci,chardev=c and memory of -object memory-backend-memfd,share=on.
      """,
    shouldDisplay: false)

  @Argument(help: "The volume.") var url: String
  @Argument(help: "The path of the socket to listen at.") var socket: String
  @Option(name: .long, parsing: .unconditional, help: "Queues that the machine may have: 1 to 64.")
  var queues = 16
  @Flag(name: .long, help: "The machine may not write.") var readOnly = false
  @Flag(
    name: .long,
    help: "Takes guest memory that is not sealed: the front end could end this process.")
  var unsealedMemory = false
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (1...64).contains(queues) else {
      throw ValidationError("expected --queues of 1 to 64, got \(queues)")
    }
  }

  /// Used by the service's thread alone once it is made.
  private final class Device: @unchecked Sendable {
    var block: VhostUserBlock?
    var isReady = false

    /// Ends the process where the volume is given up.
    func told(of state: RemoteVolumeQueue.State) {
      switch state {
      case .attached(let info) where !isReady:
        isReady = true
        print("ready: \(info.address) at \(block?.path ?? "")")
        fflush(nil)
      case .failed(let error):
        block?.close()
        ToolFailure(error).exit()
      default: break
      }
    }
  }

  func run() async {
    await reporting {
      let address = try await connection.volumeAddress(url)
      let adapter = try connection.adapter(for: address)
      let options = try deviceOptions(of: address)
      let path = socket
      let signals = try EndingSignals.watch()
      var serviceOptions = CompletionService.Options()
      serviceOptions.threadCount = 1
      let service = try CompletionService(serviceOptions)
      let device = Device()
      let words = service.result { () -> String? in
        do throws(VhostUserError) {
          let made = try VhostUserBlock(
            address, path: path, adapter: adapter, service: service, options: options)
          made.changed = { device.told(of: $0) }
          device.block = made
          return nil
        } catch { return error.description }
      }
      if let words { throw ToolFailure(71, words) }
      try EndingSignals.wait(at: signals)
      service.result { device.block?.close() }
      service.stop()
    }
  }

  private func deviceOptions(of address: VolumeAddress) throws -> VhostUserBlock.Options {
    let volume = try connection.options(access: readOnly ? .readOnly : .readWrite)
    var options = VhostUserBlock.Options()
    options.volume.key = volume.key
    options.volume.access = volume.access
    options.volume.depth = volume.depth
    options.volume.timeout = volume.timeout
    options.volume.isPatientAtFirst = volume.isPatientAtFirst
    options.volume.attemptTimeout = volume.attemptTimeout
    options.volume.hostName = volume.hostName
    options.volume.log = volume.log
    options.queueCount = queues
    options.takesUnsealedMemory = unsealedMemory
    options.log = { Output.error($0) }
    // A sum is made of what goes to other machines, and it is sent later.
    options.copiesWrites =
      address.unit.fabric == "tcp" && connection.tcp.checksums != .never
      && (connection.tcp.checksums == .always || !Self.isLoopback(address.unit.endpoint))
    return options
  }

  private static func isLoopback(_ endpoint: String) -> Bool {
    endpoint.hasPrefix("127.") || endpoint.hasPrefix("[::1]") || endpoint.hasPrefix("localhost:")
  }
}

/// SIGINT and SIGTERM, whichever thread they reach, waited for by one that has nothing else to do.
private enum EndingSignals {
  private static let number = Atomic<CInt>(-1)

  /// From now on they end nothing by themselves.
  static func watch() throws(ToolFailure) -> PassedDescriptor {
    do throws(Errno) {
      let event = PassedDescriptor(owning: try EventDescriptor().descriptor.duplicate().release())
      // Pairs with the load in the handler.
      number.store(event.number, ordering: .releasing)
      for signal in [SIGINT, SIGTERM] {
        Glibc.signal(signal) { _ in
          var one: UInt64 = 1
          _ = unsafe write(EndingSignals.number.load(ordering: .acquiring), &one, 8)
        }
      }
      signal(SIGPIPE, SIG_IGN)
      return event
    } catch { throw ToolFailure(71, "making a descriptor to wait at failed: \(error)") }
  }

  static func wait(at event: PassedDescriptor) throws {
    let poller = try Poller()
    try poller.add(event.number, tag: 0)
    while poller.wait(timeout: nil, { _ in }) == 0 {}
  }
}
