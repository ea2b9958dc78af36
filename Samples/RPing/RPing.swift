import FabricTCP
import FabricVerbs
import Foundation

/// What `rping` of the package rdmacm-utils does, over our verbs and user-space iWARP: the other end
/// may be this program or an `rping` on an iWARP device of the kernel's or a card.
///
/// In a round the client offers its data; the server reads it by RDMA, says so, is told of a second
/// buffer, writes the data there by RDMA, and says so; the client compares.
@main
struct RPing {
  static let usage = """
    usage: RPing server|client HOST:PORT [ROUNDS]
      RPing server 127.0.0.1:7174   serves one client, then ends; rping's own port is 7174
      RPing client 127.0.0.1:7174   makes 3 rounds
    """
  /// Bytes of a round's data: rping's default.
  static let byteCount = 64
  static let patience: Duration = .seconds(30)

  static func main() {
    let arguments = Array(CommandLine.arguments.dropFirst())
    if arguments.first == "--help" { return print(usage) }
    guard arguments.count == 2 || arguments.count == 3,
      let rounds = arguments.count == 3 ? Int(arguments[2]) : 3, rounds > 0
    else { end(64, usage) }
    let address = FabricAddress(fabric: "tcp", endpoint: arguments[1])
    do {
      switch arguments[0] {
      case "server": try serve(at: address)
      case "client": try ping(address, rounds: rounds)
      default: end(64, usage)
      }
    } catch {
      end(69, "error: \(error)")
    }
  }

  static func end(_ code: Int32, _ words: String) -> Never {
    FileHandle.standardError.write(Data((words + "\n").utf8))
    exit(code)
  }

  // MARK: Client

  static func ping(_ address: FabricAddress, rounds: Int) throws {
    let talk = try Talk(TCPAdapter())
    try talk.connect(to: address, within: patience)
    for round in 0..<rounds {
      let sent = pattern(round)
      talk.data = sent
      try talk.send(talk.ownBuffer)
      _ = try talk.receive(within: patience)
      // The second buffer may be the first: the server has its own copy by now.
      talk.data = [UInt8](repeating: 0, count: byteCount)
      try talk.send(talk.ownBuffer)
      _ = try talk.receive(within: patience)
      guard talk.data == sent else {
        throw TalkError("round \(round): other bytes came back than were sent")
      }
      print("ping data: \(text(sent))")
    }
    talk.disconnect()
  }

  /// As rping's: a number in front, then letters that go on from round to round, and a zero.
  static func pattern(_ round: Int) -> [UInt8] {
    let front = Array("rdma-ping-\(round): ".utf8)
    let letters = (0..<byteCount).map { UInt8(65 + (round + front.count + $0) % 58) }
    return Array((front + letters).prefix(byteCount - 1)) + [0]
  }

  static func text(_ bytes: [UInt8]) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }

  // MARK: Server

  static func serve(at address: FabricAddress) throws {
    let talk = try Talk(TCPAdapter())
    let listener = try talk.listen(at: address)
    print("ready: \(listener.address.endpoint)")
    fflush(nil)
    try talk.accept(within: nil)
    listener.close()
    while let source = try talk.receive(within: nil) {
      guard source.byteCount == byteCount else {
        throw TalkError("expected data of \(byteCount) bytes, the client has \(source.byteCount)")
      }
      try talk.read(source, within: patience)
      print("server ping data: \(text(talk.data))")
      try talk.send(talk.ownBuffer)
      guard let sink = try talk.receive(within: patience) else { break }
      guard sink.byteCount >= byteCount else {
        throw TalkError("expected room for \(byteCount) bytes, the client has \(sink.byteCount)")
      }
      try talk.write(sink)
      try talk.send(talk.ownBuffer)
    }
  }
}
