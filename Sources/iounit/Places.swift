import FabricCommandLine
import FabricIOProtocol
import FabricIOUnit
import FabricStorage
import FabricVerbs

/// `--listen ADDRESS[,state=STATE][,delay=DURATION][,cut=DURATION[:SEED]]`.
extension Serve {
  static let placeSynopsis =
    "\(listenSynopsis)[,state=STATE][,delay=DURATION][,cut=DURATION[:SEED]]"

  /// Where to listen, in the order given, and what the paths through each place are like.
  func parsePlaces() throws(ToolFailure) -> [ListeningPlace] {
    var texts: [String] = []
    var kinds: [PlaceKind] = []
    for text in listen {
      let (address, kind) = try split(text)
      texts.append(address)
      kinds.append(kind)
    }
    return zip(try parseAddresses(texts, fabricOption("--listen")), kinds).map {
      ListeningPlace($0, state: $1.state ?? .optimised, delay: $1.delay ?? .zero, cuts: $1.cuts)
    }
  }

  /// What may come behind an address.
  private struct PlaceKind {
    var state: PathState?
    var delay: Duration?
    var cuts: ListeningPlace.Cuts?
  }

  /// Takes off what comes behind the address; a path may hold commas of its own.
  private func split(
    _ text: String
  ) throws(ToolFailure) -> (address: String, kind: PlaceKind) {
    var rest = text[...]
    var kind = PlaceKind()
    while let comma = rest.lastIndex(of: ",") {
      let part = rest[rest.index(after: comma)...]
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, ["state", "delay", "cut"].contains(pair[0]) else { break }
      switch pair[0] {
      case "state":
        guard kind.state == nil else { throw twice("state", in: text) }
        kind.state = try state(pair[1], in: text)
      case "delay":
        guard kind.delay == nil else { throw twice("delay", in: text) }
        kind.delay = try duration(pair[1], of: "delay", in: text)
      default:
        guard kind.cuts == nil else { throw twice("cut", in: text) }
        kind.cuts = try cuts(pair[1], in: text)
      }
      rest = rest[..<comma]
    }
    return (String(rest), kind)
  }

  private func state(_ name: Substring, in text: String) throws(ToolFailure) -> PathState {
    if let found = PathState.allCases.first(where: { $0.description == name }) { return found }
    let names = PathState.allCases.map(\.description).joined(separator: ", ")
    throw ToolFailure(64, "--listen \(text): expected a state (\(names)), got \"\(name)\"")
  }

  private func cuts(
    _ value: Substring, in text: String
  ) throws(ToolFailure) -> ListeningPlace.Cuts {
    let parts = value.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    var seed = UInt64.random(in: 1...UInt64(UInt32.max))
    if parts.count == 2 {
      guard let found = UInt64(parts[1]) else {
        throw ToolFailure(
          64,
          "--listen \(text): expected a seed, a whole number, behind cut=\(parts[0]):, got "
            + "\"\(parts[1])\"")
      }
      seed = found
    }
    return ListeningPlace.Cuts(
      mean: try duration(parts[0], of: "cut", in: text), seed: seed)
  }

  private func duration(
    _ value: Substring, of name: String, in text: String
  ) throws(ToolFailure) -> Duration {
    if let found = FaultPlan.duration(parsing: value), found > .zero, found <= .seconds(3600) {
      return found
    }
    throw ToolFailure(
      64,
      "--listen \(text): expected \(name)= with a duration such as 500us, 1ms or 2s, at most "
        + "3600s, got \"\(value)\"")
  }

  private func twice(_ name: String, in text: String) -> ToolFailure {
    ToolFailure(64, "--listen \(text): expected \(name)= once, got it twice; leave one out")
  }
}
