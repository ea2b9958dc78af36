import FabricMessaging
import FabricSharedMemory
import FabricVerbs
import Foundation

/// A message from one process to another and back. Start `PingPong pong`, then `PingPong ping`.
@main
struct PingPong {
  static func main() async {
    do {
      try await run()
    } catch {
      print("error: \(error)")
      exit(69)
    }
  }

  static func run() async throws {
    let address = FabricAddress(fabric: "shm", endpoint: "/tmp/ping-pong.sock")
    let fabric = try AsyncFabric(SharedMemoryAdapter())
    if CommandLine.arguments.last == "pong" {
      for await channel in try await fabric.listen(at: address) {
        for await message in channel.messages {
          print("got: \(message.text)")
          try await channel.send(Message("pong", tag: message.tag))
        }
      }
    } else {
      let channel = try await fabric.connect(to: address)
      print("got: \(try await channel.request(Message("ping")).text)")
      channel.close()
    }
  }
}
