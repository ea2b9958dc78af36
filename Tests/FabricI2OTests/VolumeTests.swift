import FabricHostDriver
import FabricI2O
import FabricI2OHost
import FabricIOProtocol
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("I2O: the host's half", .untilStuck)
struct VolumeTests {
  private func address(_ test: TestServer, _ name: String) -> VolumeAddress {
    VolumeAddress(unit: test.server.addresses[0], volumeName: name)
  }

  private func attach(
    _ test: TestServer, _ name: String, _ change: (inout RemoteVolume.Options) -> Void = { _ in }
  ) async throws -> RemoteVolume {
    var options = RemoteVolume.Options()
    change(&options)
    return try await I2OVolumes.attach(
      address(test, name), adapter: try SharedMemoryAdapter(), options: options)
  }

  /// What a call throws; nil when it does not.
  private func failure(
    _ body: () async throws -> Void
  ) async -> RemoteVolumeError? {
    do {
      try await body()
      return nil
    } catch {
      return error as? RemoteVolumeError
    }
  }

  @Test("IT-51, IT-71: a volume over I2O is the one that others have")
  func truth() async throws {
    let layer = CommonLayer()
    let fabric = try UnitFabric(try SharedMemoryAdapter())
    try layer.add(Volume(name: "disk", store: try fabric.makeMemoryStore(byteCount: 1 << 22)))
    let path = "/tmp/fabric-i2o-truth-\(UInt32.random(in: 0 ... .max))"
    let unit = try IOUnitServer(
      layer: layer, fabric: fabric, address: FabricAddress(fabric: "shm", endpoint: path + ".u"))
    let server = try I2OServer(
      layer: layer, service: fabric.service, adapter: try SharedMemoryAdapter(),
      addresses: [FabricAddress(fabric: "shm", endpoint: path + ".i")])
    let own = try await RemoteVolume.attach(
      VolumeAddress(unit: unit.address, volumeName: "disk"), adapter: try SharedMemoryAdapter())
    let i2o = try await I2OVolumes.attach(
      VolumeAddress(unit: server.addresses[0], volumeName: "disk"),
      adapter: try SharedMemoryAdapter())
    #expect(i2o.info.identifier == own.info.identifier)
    #expect(i2o.info.blockCount == own.info.blockCount)
    // More than one message's worth, both ways.
    let data = (0..<600 << 10).map { UInt8(truncatingIfNeeded: $0 / 511) }
    try await i2o.write(block: 7, data, flags: .forceUnitAccess)
    #expect(try await own.read(block: 7, count: 150) == data)
    try await own.write(block: 500, data)
    #expect(try await i2o.read(block: 500, count: 150) == data)
    try await i2o.flush()
    await own.close()
    await i2o.close()
    server.stop()
    unit.stop()
  }

  @Test("IT-22, IT-51: a listing of all devices that the host may use")
  func listing() async throws {
    let test = try TestServer()
    let unit = VolumeAddress(unit: test.server.addresses[0], volumeName: "")
    let listing = try await I2OVolumes.list(unit, adapter: try SharedMemoryAdapter())
    #expect(listing.volumes.map(\.name) == ["book", "disk"])
    #expect(listing.volumes.map(\.access) == [.readOnly, .readWrite])
    #expect(listing.volumes.map(\.blockByteCount) == [512, 4096])
    #expect(listing.unitName == I2OServer.Options().unitName)
  }

  @Test("IT-16, IT-72: what is not there, or may not be written, is refused when it is attached")
  func refusals() async throws {
    let test = try TestServer()
    let absent = await failure { _ = try await attach(test, "nope") }
    #expect(absent?.description.contains("the volumes book, disk, got \"nope\"") == true)
    let readOnly = await failure { _ = try await attach(test, "book") }
    #expect(readOnly?.description.contains("may only be read") == true)
    let book = try await attach(test, "book") { $0.access = .readOnly }
    #expect(try await book.read(block: 0, count: 1).count == 512)
    await book.close()
  }

  @Test("IT-72: requests without a message, and those outside the volume")
  func unsupported() async throws {
    let test = try TestServer()
    let volume = try await attach(test, "disk")
    let refusal = await failure { try await volume.writeZeroes(block: 0, count: 1) }
    guard case .failed(_, _, _, .unsupported)? = refusal else {
      Issue.record("there is no such message, but \(String(describing: refusal))")
      return
    }
    #expect(try await volume.read(block: 0, count: 1).count == 4096)
    await volume.close()
  }

  @Test("IT-60, IT-72: a read without an answer is aborted, and the volume stays of use")
  func aborted() async throws {
    let test = try TestServer(
      volumes: [try TestServer.volume("slow", fault: "delay=1s:read")])
    let lines = Lines()
    let volume = try await attach(test, "slow") {
      $0.timeout = .milliseconds(600)
      $0.log = { lines.add($0) }
    }
    let refusal = await failure { _ = try await volume.read(block: 0, count: 1) }
    guard case .unanswered? = refusal else {
      Issue.record("it was to be aborted, but \(String(describing: refusal))")
      return
    }
    _ = await failure { _ = try await volume.read(block: 1, count: 1) }
    #expect(lines.values.count { $0.contains("it is being aborted") } == 1)
    try await volume.write(block: 0, [UInt8](repeating: 1, count: 4096))
    await volume.close()
  }

  @Test("IT-72: a write that the medium does not end is given up after the abort")
  func unanswered() async throws {
    let test = try TestServer(
      volumes: [try TestServer.volume("stuck", fault: "delay=3s:write")])
    let volume = try await attach(test, "stuck") { $0.timeout = .milliseconds(400) }
    let refusal = await failure {
      try await volume.write(block: 0, [UInt8](repeating: 1, count: 4096))
    }
    guard case .unanswered? = refusal else {
      Issue.record("it was to be given up, but \(String(describing: refusal))")
      return
    }
    await volume.close()
  }

  @Test("IT-72: a connection that is lost is not made again")
  func lost() async throws {
    let test = try TestServer(volumes: [try TestServer.volume("slow", fault: "delay=10s:read")])
    let volume = try await attach(test, "slow")
    let reading = Task { await failure { _ = try await volume.read(block: 0, count: 1) } }
    // Until the medium has it.
    while test.server.freeReadBufferCount == I2OServer.Options().readBufferCount {
      await Task.yield()
    }
    test.server.stop()
    #expect(await reading.value?.description.contains("the connection was lost") == true)
    await volume.close()
  }
}
