import FabricAuthentication
import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

private func key(_ name: String, _ byte: UInt8 = 1) throws -> PresharedKey {
  try PresharedKey(name: name, secret: [UInt8](repeating: byte, count: 32))
}

@Suite("I/O unit: keys and rights", .untilStuck)
struct RightsTests {
  /// A unit with the volumes m, r (read-only) and s, and keys of alice, bob and carol.
  private func unit(_ scratch: Scratch, _ rules: [VolumeRights.Rule]?) throws -> TestUnit {
    var options = IOUnitServer.Options()
    options.keys = Keyring(try ["alice", "bob", "carol"].map { try key($0) })
    options.rights = rules.map { VolumeRights($0) }
    return try TestUnit(scratch, options: options) { fabric in
      [
        Volume(name: "r", store: try fabric.makeMemoryStore(byteCount: 65536, isReadOnly: true)),
        Volume(name: "s", store: try fabric.makeMemoryStore(byteCount: 65536)),
      ]
    }
  }

  private func host(
    _ unit: TestUnit, _ volume: String, _ name: String, _ access: VolumeAccess = .readWrite,
    byte: UInt8 = 1
  ) throws -> TestHost {
    var options = RemoteVolumeQueue.Options()
    options.key = try key(name, byte)
    options.access = access
    return try TestHost(unit.address(volume), options: options)
  }

  private func listing(_ unit: TestUnit, _ name: String) async throws -> [String] {
    try await VolumeDiscovery.list(
      VolumeAddress(unit: unit.server.address, volumeName: ""), adapter: SharedMemoryAdapter(),
      key: try key(name)
    ).volumes.map { "\($0.name) \($0.access)" }
  }

  @Test("MS-16: without rules every host with a key may use every volume, and no other host any")
  func everything() async throws {
    let scratch = try Scratch()
    let unit = try unit(scratch, nil)
    let alice = try host(unit, "m", "alice")
    #expect(alice.run { alice.isAttached }, "\(alice.states)")
    #expect(alice.perform(.write, 0, 1)?.status == .success)
    #expect(try await listing(unit, "bob") == ["m readWrite", "r readOnly", "s readWrite"])
    for (name, byte) in [("alice", 9), ("mallory", 1)] as [(String, UInt8)] {
      let stranger = try host(unit, "m", name, byte: byte)
      #expect(stranger.run { stranger.failure != nil })
      guard case .unproven(_, let reason)? = stranger.failure else {
        Issue.record("\(stranger.states)")
        continue
      }
      #expect(reason.contains("compare the keys of both sides"))
    }
    let keyless = try TestHost(unit.address("m"))
    #expect(keyless.run { keyless.failure != nil })
    #expect("\(keyless.failure!)".contains("expected a proven key, got none"))
    let refusals = unit.lines.values.filter { $0.hasPrefix("refused process ") }
    #expect(refusals.count == 3, "\(unit.lines.values)")
  }

  @Test("MS-17: a unit that comes back with other keys ends its hosts at once")
  func otherKeys() throws {
    let scratch = try Scratch()
    var unit: TestUnit? = try unit(scratch, nil)
    let alice = try host(unit!, "m", "alice")
    #expect(alice.run { alice.isAttached })
    unit?.server.stop()
    unit = nil
    var options = IOUnitServer.Options()
    options.keys = Keyring([try key("alice", 9)])
    let other = try TestUnit(scratch, options: options)
    #expect(alice.run { alice.failure != nil })
    guard case .unproven? = alice.failure else {
      Issue.record("\(alice.states)")
      return
    }
    _ = other
  }

  @Test("IO-17: a host sees what rules allow it, and may do no more; rules add up")
  func rules() async throws {
    let scratch = try Scratch()
    let unit = try unit(
      scratch,
      [
        .init(host: "alice", volume: "m", access: .readWrite),
        .init(host: "bob", volume: nil, access: .readOnly),
        .init(host: "bob", volume: "s", access: .readWrite),
        .init(host: nil, volume: "r", access: .readWrite),
      ])
    #expect(try await listing(unit, "alice") == ["m readWrite", "r readOnly"])
    #expect(try await listing(unit, "bob") == ["m readOnly", "r readOnly", "s readWrite"])
    #expect(try await listing(unit, "carol") == ["r readOnly"])
    let writer = try host(unit, "s", "bob")
    #expect(writer.run { writer.isAttached })
    #expect(writer.perform(.write, 0, 1)?.status == .success)
    // What is not allowed is not there.
    let blind = try host(unit, "s", "alice", .readOnly)
    #expect(blind.run { blind.failure != nil })
    #expect("\(blind.failure!)".contains("expected one of the volumes m, r, got \"s\""))
    let hasty = try host(unit, "m", "bob")
    #expect(hasty.run { hasty.failure != nil })
    #expect("\(hasty.failure!)".contains("attach it read-only"))
    let reader = try host(unit, "m", "bob", .readOnly)
    #expect(reader.run { reader.isAttached })
    #expect(reader.perform(.read, 0, 1)?.status == .success)
    #expect(reader.perform(.write, 0, 1)?.status == .readOnly)
    #expect(reader.perform(.writeZeroes, 0, 1)?.status == .readOnly)
    // A volume nobody but others may use.
    let alone = try self.unit(try Scratch(), [.init(host: "alice", volume: "m", access: .readOnly)])
    #expect(try await listing(alone, "carol") == [])
    let carol = try host(alone, "m", "carol", .readOnly)
    #expect(carol.run { carol.failure != nil })
    #expect("\(carol.failure!)".contains("no volume is"))
  }

  @Test("IO-17: a host calls itself as its key is called")
  func names() throws {
    let scratch = try Scratch()
    let unit = try unit(scratch, [.init(host: "alice", volume: "m", access: .readWrite)])
    let greeting = try HostOpening(
      volumeName: "m", hostName: "alice", session: .random(), depth: 16
    ).encoded()
    let liar = try RawHost(unit, greeting: greeting, key: try key("bob"))
    #expect("\(liar.refusal!)".contains("as its key is called, \"bob\", got \"alice\""))
    let honest = try RawHost(unit, greeting: greeting, key: try key("alice"))
    #expect(honest.run { honest.isReady })
  }

  @Test("IO-14: a session is its host's: another cannot fence it")
  func foreignSessions() throws {
    let scratch = try Scratch()
    let unit = try unit(scratch, nil)
    let session = HostOpening.SessionIdentifier.random()
    func greeting(_ name: String, epoch: UInt32) throws -> [UInt8] {
      try HostOpening(
        volumeName: "m", hostName: name, session: session, epoch: epoch, depth: 16
      ).encoded()
    }
    let alice = try RawHost(unit, greeting: greeting("alice", epoch: 1), key: try key("alice"))
    #expect(alice.run { alice.isReady })
    let bob = try RawHost(unit, greeting: greeting("bob", epoch: 9), key: try key("bob"))
    #expect(bob.run { bob.isReady })
    alice.send(CommandCapsule(.flush, tag: RequestTag(rawValue: 1)))
    #expect(alice.run { alice.responses.count == 1 })
    #expect(alice.closeReason == nil)
  }
}
