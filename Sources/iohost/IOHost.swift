import ArgumentParser
import FabricCommandLine

@main
struct IOHost: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "iohost",
    abstract: "Uses the volumes and NICs of I/O units.",
    discussion: """
      A volume is named by a URL such as fabric+shm:///run/user/1000/unit.sock/VOLUME, \
      fabric+tcp://HOST:PORT/VOLUME or fabric+rdma://HOST:PORT/VOLUME.

      Exit codes: 0 done; 1 a verification found a difference; 64 wrong use; 66 a local file \
      cannot be used; 69 no unit, volume or NIC there; 71 the system lacks something (doctor says \
      what); 74 a request failed, or a device is in use; 75 gave up after --timeout; 77 not allowed: the volume is \
      read-only, or the unit and this host have not one key; 130 \
      interrupted; 143 ended by SIGTERM, as the shell tells it.
      """,
    version: "iohost \(Release.version)",
    subcommands: [
      Discover.self, Info.self, Read.self, Write.self, Copy.self, Verify.self, Bench.self,
      Attach.self, Detach.self, List.self, Paths.self, Top.self, Control.self, NIC.self,
      AttachWorker.self, AttachGuard.self, NICWorker.self, Doctor.self,
    ])

  static func main() async {
    var command = commandFromArguments()
    do {
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch { end(because: error) }
  }
}
