import FabricCommandLine
import FabricIOProtocol
import FabricIOUnit
import FabricStorage
import FabricVerbs

/// `--listen ADDRESS[,state=STATE][,delay=DURATION]`.
extension Serve {
  static let placeSynopsis = "\(listenSynopsis)[,state=STATE][,delay=DURATION]"

  /// Where to listen, in the order given, and what the paths through each place are like.
  func parsePlaces() throws(ToolFailure) -> [ListeningPlace] {
    var texts: [String] = []
    var others: [(state: PathState, delay: Duration)] = []
    for text in listen {
      let (address, state, delay) = try split(text)
      texts.append(address)
      others.append((state, delay))
    }
    return zip(try parseAddresses(texts, fabricOption("--listen")), others).map {
      ListeningPlace($0, state: $1.state, delay: $1.delay)
    }
  }

  /// What comes behind the address; a path may hold commas of its own.
  private func split(
    _ text: String
  ) throws(ToolFailure) -> (address: String, state: PathState, delay: Duration) {
    var rest = text[...]
    var state: PathState?
    var delay: Duration?
    while let comma = rest.lastIndex(of: ",") {
      let part = rest[rest.index(after: comma)...]
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, ["state", "delay"].contains(pair[0]) else { break }
      if pair[0] == "state" {
        guard let found = PathState.allCases.first(where: { $0.description == pair[1] }) else {
          let names = PathState.allCases.map(\.description).joined(separator: ", ")
          throw ToolFailure(
            64, "--listen \(text): expected a state (\(names)), got \"\(pair[1])\"")
        }
        guard state == nil else { throw twice("state", in: text) }
        state = found
      } else {
        guard let found = FaultPlan.duration(parsing: pair[1]), found <= .seconds(60) else {
          throw ToolFailure(
            64,
            "--listen \(text): expected a delay such as 500us or 1ms, at most 60s, got "
              + "\"\(pair[1])\"")
        }
        guard delay == nil else { throw twice("delay", in: text) }
        delay = found
      }
      rest = rest[..<comma]
    }
    return (String(rest), state ?? .optimised, delay ?? .zero)
  }

  private func twice(_ name: String, in text: String) -> ToolFailure {
    ToolFailure(64, "--listen \(text): expected \(name)= once, got it twice; leave one out")
  }
}
