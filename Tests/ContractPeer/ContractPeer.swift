import FabricPlatform
import FabricVerbs
import Foundation

/// One side of the contract suite as a process of its own: carries out the commands of the test
/// that has started it, and ends with it.
@main
struct ContractPeer {
  static func main() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3 else { exit(64) }
    let socket = try SequencedSocket.connect(to: arguments[1])
    let poller = try Poller()
    try poller.add(socket.descriptor.rawValue, tag: 0)
    guard let kind = AdapterKind(rawValue: arguments[2]) else { exit(64) }
    let worker = try Worker(kind.makeAdapter())
    while let command = try receive(Command.self, from: socket, poller) {
      let reply: Reply
      do { reply = try worker.carryOut(command) } catch { reply = .refused(Refusal(error)) }
      try socket.send([UInt8](JSONEncoder().encode(reply)), descriptors: worker.takeDescriptors())
    }
  }
}

/// Waits for one datagram; nil when the other side is gone.
func receive<Value: Decodable>(
  _ type: Value.Type, from socket: SequencedSocket, _ poller: borrowing Poller,
  descriptors: ((CInt) -> Void)? = nil
) throws -> Value? {
  var bytes = [UInt8](repeating: 0, count: 1 << 18)
  while true {
    switch unsafe bytes.withUnsafeMutableBytes({ unsafe socket.receive(into: $0) }) {
    case .nothing: poller.wait(timeout: nil) { _ in }
    case .hangUp: return nil
    case .datagram(let count, let numbers, _):
      for number in numbers { descriptors?(number) }
      return try JSONDecoder().decode(Value.self, from: Data(bytes[..<count]))
    }
  }
}
