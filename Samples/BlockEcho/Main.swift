import FabricCompletion
import FabricFrontEnds
import FabricStorage
import Glibc

/// Serves a volume in memory by a protocol of this sample's own, at a Unix socket, until it is killed:
///
///     swift run BlockEcho /tmp/echo.sock &
///     head -c 4096 /dev/urandom | tee sent | socat -t 5 - UNIX:/tmp/echo.sock | cmp - sent
@main
enum Main {
  static func main() throws {
    guard CommandLine.arguments.count == 2, !CommandLine.arguments[1].hasPrefix("-") else {
      print("error: expected the path of a socket to make, as in: BlockEcho /tmp/echo.sock")
      exit(64)
    }
    let layer = CommonLayer()
    let volume = Volume(name: "echo", store: try MemoryStore(byteCount: 1 << 20))
    try layer.add(volume)
    var options = CompletionService.Options()
    options.threadCount = 1
    let frontEnd = try StreamFrontEnd(
      name: "block echo", layer: layer, service: try CompletionService(options),
      addresses: [.local(path: CommandLine.arguments[1])]
    ) { stream, frontEnd in BlockEcho(stream, frontEnd, volume) }
    print("ready: \(frontEnd.addresses[0])")
    fflush(nil)
    while true { pause() }
  }
}
