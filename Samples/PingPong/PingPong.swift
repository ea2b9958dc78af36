import FabricMessaging
import FabricSharedMemory
import FabricVerbs
import Foundation

/// A message from one process to another and back. Start `PingPong pong`, then `PingPong ping`; a
/// path after either is where they meet.
@main
struct PingPong {
  static let usage = "usage: PingPong ping|pong [SOCKET], for example: PingPong pong /tmp/a.sock"

  static func main() async {
    let arguments = CommandLine.arguments.dropFirst()
    let role = arguments.first ?? "ping"
    if role == "--help" { return print(usage) }
    guard ["ping", "pong"].contains(role), arguments.count <= 2 else {
      FileHandle.standardError.write(Data((usage + "\n").utf8))
      exit(64)
    }
    let address = FabricAddress(
      fabric: "shm", endpoint: arguments.count == 2 ? arguments.last! : "/tmp/ping-pong.sock")
    do {
      if role == "pong" {
        let answering = Task { try await pong(at: address) }
        let signals = [SIGINT, SIGTERM].map { cancel(answering, at: $0) }
        try await answering.value
        signals.forEach { $0.cancel() }
      } else {
        try await ping(address)
      }
    } catch {
      FileHandle.standardError.write(Data("error: \(error)\n".utf8))
      exit(69)
    }
  }

  static func pong(at address: FabricAddress) async throws {
    let fabric = try AsyncFabric(SharedMemoryAdapter())
    for await channel in try await fabric.listen(at: address) {
      // A task for each peer: one that is slow, or hangs up, is nothing to the others.
      Task {
        for await message in channel.messages {
          print("got: \(message.text)")
          try? await channel.send(Message("pong", tag: message.tag))
        }
      }
    }
  }

  static func ping(_ address: FabricAddress) async throws {
    let fabric = try AsyncFabric(SharedMemoryAdapter())
    let channel = try await fabric.connect(to: address)
    print("got: \(try await channel.request(Message("ping")).text)")
    channel.close()
  }

  /// Ends a task in order instead of the process at once, so that its socket goes as well.
  static func cancel(
    _ task: Task<Void, any Error>, at number: Int32
  ) -> any DispatchSourceSignal {
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number)
    source.setEventHandler { task.cancel() }
    source.resume()
    return source
  }
}
