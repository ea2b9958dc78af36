public import FabricPlatform
public import FabricVerbs

/// What the contract suite needs of whoever runs it: two adapters that reach each other, and time.
///
/// The adapters may be of one process or of two; see `DistantAdapter`.
public protocol ContractFixture: AnyObject {
  /// Two fresh adapters, the first to connect from, the second to listen on, and where.
  func makePair() throws -> ContractPair

  /// Lets a little time pass: a step of a simulation, nothing or a pause for real adapters.
  func pump()

  /// The time that bounds waiting: virtual or real.
  var now: MonotonicTime { get }

  /// Ends the adapter as the death of its process does; false where that cannot be arranged.
  func kill(_ adapter: any Adapter) -> Bool

  /// How many messages the long checks send.
  var longRunMessageCount: Int { get }
}

extension ContractFixture {
  /// Cannot.
  public func kill(_ adapter: any Adapter) -> Bool { false }

  public var longRunMessageCount: Int { 200_000 }
}

/// Two adapters and a place.
public struct ContractPair {
  public var client: any Adapter
  public var server: any Adapter
  /// Where the server may listen; nobody does yet.
  public var address: FabricAddress

  public init(client: any Adapter, server: any Adapter, address: FabricAddress) {
    self.client = client
    self.server = server
    self.address = address
  }
}

/// Stands for an adapter in another process, whose memory is looked at and changed by asking.
public protocol DistantAdapter: Adapter {
  func load(from address: UInt64, byteCount: Int) -> [UInt8]
  func store(_ bytes: [UInt8], at address: UInt64)
}

/// What an adapter does that the contract forbids, or the other way round.
public struct ContractViolation: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// How a check ended that found no violation.
public enum ContractOutcome: Equatable, Sendable {
  case kept
  /// The adapter or the fixture lacks what the check is about.
  case notApplicable(String)
}

/// One promise of the contract, and how to see that it is kept.
public struct ContractCheck: Sendable, CustomStringConvertible {
  public let name: String
  /// Throws a `ContractViolation`, or the error of a call that should have succeeded.
  public let run: @Sendable (any ContractFixture) throws -> ContractOutcome
  public var description: String { name }

  init(_ name: String, _ run: @escaping @Sendable (any ContractFixture) throws -> Void) {
    self.name = name
    self.run = { fixture in
      do {
        try run(fixture)
        return .kept
      } catch let reason as NotApplicable { return .notApplicable(reason.words) }
    }
  }
}

/// Thrown by checks that find nothing to check.
struct NotApplicable: Error {
  let words: String
}

/// All promises that can be checked from outside.
public enum ContractSuite {
  public static let checks: [ContractCheck] =
    messageChecks + remoteMemoryChecks + keyChecks + queueChecks + connectionChecks + endChecks
}

/// Throws a violation unless `condition` holds.
func expect(_ condition: Bool, _ words: @autoclosure () -> String) throws {
  if !condition { throw ContractViolation(words()) }
}
