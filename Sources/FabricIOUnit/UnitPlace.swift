public import FabricIOProtocol
import FabricPlatform
public import FabricVerbs

/// Where a unit listens, and how good the paths through it are.
public struct ListeningPlace: Sendable {
  public var address: FabricAddress
  /// What hosts are told of it. (IO-60)
  public var state: PathState
  /// Answers wait so long, for drills.
  public var delay: Duration
  /// For drills: connections are cut at random, and again for a while none gets through; nil: never.
  public var cuts: Cuts?

  /// How a drill cuts paths.
  public struct Cuts: Sendable {
    /// From one cut to the next, on average.
    public var mean: Duration
    public var seed: UInt64

    public init(mean: Duration, seed: UInt64) {
      self.mean = mean
      self.seed = seed
    }
  }

  public init(
    _ address: FabricAddress, state: PathState = .optimised, delay: Duration = .zero,
    cuts: Cuts? = nil
  ) {
    self.address = address
    self.state = state
    self.delay = delay
    self.cuts = cuts
  }
}

/// The same for the connections that come to it. Confined to its shard's thread.
final class UnitPlace {
  let place: ListeningPlace
  /// The number of the endpoint that listens.
  let endpoint: Int
  /// All places where it listens: a name may stand for several, and a port may have been left open.
  var addresses: [FabricAddress] = []
  var state: PathState
  /// Nanoseconds.
  let delay: UInt64
  /// A drill has it that no host gets through.
  var isCut = false

  init(_ place: ListeningPlace, endpoint: Int) {
    self.place = place
    self.endpoint = endpoint
    state = place.state
    delay = place.delay.nanoseconds
  }

  /// Where hosts reach it. (IO-43)
  var reachable: [AddressEntry.Address] {
    addresses.flatMap { address -> [FabricAddress] in
      guard address.fabric != "shm", let found = try? InternetAddress.resolve(address.endpoint)
      else { return [address] }
      return found.flatMap(\.reachable).map {
        FabricAddress(fabric: address.fabric, endpoint: "\($0)")
      }
    }.filter(AddressEntry.fits).map { AddressEntry.Address($0, state: state) }
  }
}
