import FabricSimulated
import FabricVerbs

/// One way in which a unit or a host breaks its protocol, and a case that has to notice.
///
/// What it says is changed on its way to the judge; where it is to overlook what its peer must not do, that is what does
/// not reach it, or reaches it as something else.
struct Mutation: Sendable, CustomStringConvertible {
  /// Which half is broken: the name of its adapter.
  enum Half: String {
    case unit
    case host
  }

  /// What a mutation remembers of a run.
  struct State {
    var count = 0
    var lastReturn: UInt16 = 0xffff
  }

  let description: String
  let clause: String
  /// The case that notices.
  let caughtBy: String
  let alter: @Sendable (inout SimulatedTraffic, inout State) -> SimulatedFate
  /// How a host is made otherwise.
  private(set) var prepare: @Sendable (inout HostMaking) -> Void = { _ in }
  /// What a unit's adapter asks of the host's remote keys.
  private(set) var keyChecks = SimulatedAdapter.KeyChecks.all

  private init(
    _ description: String, _ clause: String, by caughtBy: String,
    alter: @escaping @Sendable (inout SimulatedTraffic, inout State) -> SimulatedFate
  ) {
    self.description = description
    self.clause = clause
    self.caughtBy = caughtBy
    self.alter = alter
  }

  /// What it says in a message is changed.
  static func says(
    _ description: String, _ clause: String, by caughtBy: String, of half: Half = .unit,
    _ change: @escaping @Sendable (inout [UInt8], inout State) -> SimulatedFate
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, state in
      guard traffic.sender == half.rawValue, traffic.opcode == .send else { return .delivered }
      return change(&traffic.bytes, &state)
    }
  }

  /// What it says in messages of a type, or of the user's in those of a kind, is changed.
  static func says(
    _ description: String, _ clause: String, by caughtBy: String, of half: Half = .unit,
    in type: UInt8, kind: UInt8? = nil, _ change: @escaping @Sendable (inout [UInt8]) -> Void
  ) -> Mutation {
    says(description, clause, by: caughtBy, of: half) { bytes, _ in
      if bytes[0] == type, kind == nil || bytes[2] == kind { change(&bytes) }
      return .delivered
    }
  }

  /// What it never says.
  static func keeps(
    _ description: String, _ clause: String, by caughtBy: String, of half: Half = .unit,
    _ type: UInt8, kind: UInt8? = nil
  ) -> Mutation {
    says(description, clause, by: caughtBy, of: half) { bytes, _ in
      bytes[0] == type && (kind == nil || bytes[2] == kind) ? .lost : .delivered
    }
  }

  /// What it writes, or tells by an immediate, is changed.
  static func writes(
    _ description: String, _ clause: String, by caughtBy: String, of half: Half = .unit,
    _ change: @escaping @Sendable (inout SimulatedTraffic) -> SimulatedFate
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, _ in
      guard traffic.sender == half.rawValue, traffic.opcode != .send else { return .delivered }
      return change(&traffic)
    }
  }

  /// What the judge says does not reach it, or reaches it as something else: it overlooks that.
  static func overlooks(
    _ description: String, _ clause: String, by caughtBy: String,
    _ change: @escaping @Sendable (inout [UInt8]) -> SimulatedFate
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, _ in
      guard traffic.sender == "judge", traffic.opcode == .send, traffic.bytes.count >= 16 else {
        return .delivered
      }
      return change(&traffic.bytes)
    }
  }

  /// One immediate of the judge's does not reach it.
  static func overlooks(
    immediate: UInt32, _ description: String, _ clause: String, by caughtBy: String
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, _ in
      traffic.sender == "judge" && traffic.opcode == .writeWithImmediate
        && traffic.immediate == immediate ? .lost : .delivered
    }
  }

  /// The judge's messages of a type, or of the user's those of a kind, do not reach it.
  static func overlooks(
    _ description: String, _ clause: String, by caughtBy: String, _ type: UInt8,
    kind: UInt8? = nil
  ) -> Mutation {
    overlooks(description, clause, by: caughtBy) { bytes in
      bytes[0] == type && (kind == nil || bytes[2] == kind) ? .lost : .delivered
    }
  }

  /// A unit whose adapter does not ask this of a remote key.
  static func asksNot(
    _ check: SimulatedAdapter.KeyChecks, _ description: String, _ clause: String,
    by caughtBy: String
  ) -> Mutation {
    var mutation = Mutation(description, clause, by: caughtBy) { _, _ in .delivered }
    mutation.keyChecks.remove(check)
    return mutation
  }

  /// A host that is made otherwise.
  static func makes(
    _ description: String, _ clause: String, by caughtBy: String,
    _ prepare: @escaping @Sendable (inout HostMaking) -> Void
  ) -> Mutation {
    var mutation = Mutation(description, clause, by: caughtBy) { _, _ in .delivered }
    mutation.prepare = prepare
    return mutation
  }
}

extension [UInt8] {
  /// Of four bytes, little-endian.
  subscript(word offset: Int) -> UInt32 {
    get { (0..<4).reduce(0) { $0 | UInt32(self[offset + $1]) << (8 * $1) } }
    set {
      for index in 0..<4 {
        self[offset + index] = UInt8(truncatingIfNeeded: newValue >> (8 * index))
      }
    }
  }
}
