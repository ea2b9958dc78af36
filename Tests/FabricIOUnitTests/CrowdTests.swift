import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import Synchronization
import TestSupport
import Testing

@Suite("A unit whose places are taken", .untilStuck)
struct CrowdTests {
  /// A unit over TCP with one place for each address, and a stranger in it.
  private final class FullUnit {
    let server: IOUnitServer
    var stranger: StreamSocket?
    var address: VolumeAddress { VolumeAddress(unit: server.address, volumeName: "m") }

    init() async throws {
      var options = TCPOptions()
      options.connectionsPerAddress = 1
      let fabric = try UnitFabric(try TCPAdapter(options))
      let layer = CommonLayer()
      try layer.add(Volume(name: "m", store: fabric.makeMemoryStore(byteCount: 1 << 20)))
      server = try IOUnitServer(
        layer: layer, fabric: fabric,
        address: FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"))
      let place = try #require(InternetAddress.resolve(server.address.endpoint).first)
      let stranger = try StreamSocket.connect(to: place)
      self.stranger = stranger
      var answer: [UInt8] = []
      let request = Array("MPA ID Req Frame".utf8) + [0x40, 1, 0, 0]
      while stranger.connectError != nil || stranger.send(request) != .bytes(request.count) {
        try await Task.sleep(for: .milliseconds(1))
      }
      while stranger.receive(into: &answer, limit: 64) == .wouldBlock {
        try await Task.sleep(for: .milliseconds(1))
      }
      try #require(!answer.isEmpty)
    }

    deinit { server.stop() }

    /// On a machine that stands still for seconds the unit throws the stranger out.
    var hasLostPatience: Bool { stranger?.peerHasEnded ?? true }
  }

  @Test("IW-37: a host that is turned away asks again for a while, and gets in when there is room")
  func asksAgain() async throws {
    while true {
      let unit = try await FullUnit()
      let lines = Lines()
      var options = RemoteVolume.Options()
      options.log = { lines.add($0) }
      // Not less than it may be until this test has a processor again.
      options.attemptTimeout = .seconds(300)
      let (address, attempts) = (unit.address, options)
      async let attached = RemoteVolume.attach(
        address, adapter: TCPAdapter(), options: attempts)
      while !unit.hasLostPatience
        && !lines.values.contains(where: { $0.contains("attempt 3, next in") })
      {
        try await Task.sleep(for: .milliseconds(5))
      }
      let wasLate = unit.hasLostPatience
      unit.stranger = nil
      let volume = try await attached
      #expect(try await volume.read(block: 0, count: 1).count == 4096)
      await volume.close()
      if !wasLate { return }
    }
  }

  @Test("A host that stays shut out is told where, what likely happened and what to do")
  func shutOut() async throws {
    var options = RemoteVolume.Options()
    options.attemptTimeout = .milliseconds(300)
    let attempt = options
    while true {
      let unit = try await FullUnit()
      let address = unit.address
      let attaching = await failure {
        await (try RemoteVolume.attach(address, adapter: TCPAdapter(), options: attempt)).close()
      }
      let listing = await failure {
        _ = try await VolumeDiscovery.list(
          VolumeAddress(unit: address.unit, volumeName: ""), adapter: TCPAdapter(),
          timeout: .milliseconds(400))
      }
      if unit.hasLostPatience { continue }
      for words in [attaching, listing] {
        for part in [
          "fabric+tcp://127.0.0.1:", "as many connections as it takes", "try again later",
        ] {
          #expect(words.contains(part), "\(words)")
        }
      }
      return
    }
  }

  /// What a call fails with, in words; empty when it does not.
  private func failure(of call: () async throws -> Void) async -> String {
    do {
      try await call()
      return ""
    } catch { return "\(error)" }
  }

  @Test("Discovery that is turned away asks again, too")
  func discovery() async throws {
    while true {
      let unit = try await FullUnit()
      let address = VolumeAddress(unit: unit.address.unit, volumeName: "")
      let adapter = try CountingAdapter()
      async let listing = VolumeDiscovery.list(address, adapter: adapter, timeout: .seconds(300))
      // Only who was turned away connects a second time.
      while !unit.hasLostPatience && adapter.connectCount.load(ordering: .relaxed) < 2 {
        try await Task.sleep(for: .milliseconds(5))
      }
      let wasLate = unit.hasLostPatience
      unit.stranger = nil
      #expect(try await listing.volumes.map(\.name) == ["m"])
      if !wasLate { return }
    }
  }
}

/// Counts its attempts to connect.
private final class CountingAdapter: ForwardingAdapter {
  let base: any Adapter
  let connectCount = Atomic<Int>(0)

  init() throws { base = try TCPAdapter() }

  func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    connectCount.add(1, ordering: .relaxed)
    try base.connect(
      queuePair, to: address, privateData: privateData, timeout: timeout, events: events)
  }
}
