import FabricSimulated
import FabricVerbs

/// One way in which a unit breaks its protocol, and a case that has to notice.
///
/// What a unit says is changed on its way to the judge; where a unit is to overlook what a host must not do, that is what
/// does not reach it.
struct Mutation: Sendable, CustomStringConvertible {
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

  private init(
    _ description: String, _ clause: String, by caughtBy: String,
    alter: @escaping @Sendable (inout SimulatedTraffic, inout State) -> SimulatedFate
  ) {
    self.description = description
    self.clause = clause
    self.caughtBy = caughtBy
    self.alter = alter
  }

  /// What the unit says in a message is changed.
  static func says(
    _ description: String, _ clause: String, by caughtBy: String,
    _ change: @escaping @Sendable (inout [UInt8], inout State) -> SimulatedFate
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, state in
      guard traffic.sender == "unit", traffic.opcode == .send else { return .delivered }
      return change(&traffic.bytes, &state)
    }
  }

  /// What the unit says in messages of a type, or of the user's in those of a kind, is changed.
  static func says(
    _ description: String, _ clause: String, by caughtBy: String, in type: UInt8,
    kind: UInt8? = nil, _ change: @escaping @Sendable (inout [UInt8]) -> Void
  ) -> Mutation {
    says(description, clause, by: caughtBy) { bytes, _ in
      if bytes[0] == type, kind == nil || bytes[2] == kind { change(&bytes) }
      return .delivered
    }
  }

  /// What the unit never says.
  static func keeps(
    _ description: String, _ clause: String, by caughtBy: String, _ type: UInt8,
    kind: UInt8? = nil
  ) -> Mutation {
    says(description, clause, by: caughtBy) { bytes, _ in
      bytes[0] == type && (kind == nil || bytes[2] == kind) ? .lost : .delivered
    }
  }

  /// What the unit writes, or tells by an immediate, is changed.
  static func writes(
    _ description: String, _ clause: String, by caughtBy: String,
    _ change: @escaping @Sendable (inout SimulatedTraffic) -> SimulatedFate
  ) -> Mutation {
    Mutation(description, clause, by: caughtBy) { traffic, _ in
      guard traffic.sender == "unit", traffic.opcode != .send else { return .delivered }
      return change(&traffic)
    }
  }

  /// What a host says does not reach the unit, or reaches it as something else: the unit overlooks it.
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
