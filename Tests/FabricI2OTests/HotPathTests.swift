import CAllocationCounter
import FabricCompletion
import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricTCP
import FabricVerbs
import FabricWire
import Foundation
import Synchronization
import TestSupport
import Testing

/// A server and a host on the calling thread.
private final class SingleThread {
  let service: CompletionService
  let server: I2OServer
  let host: RawHost

  init(_ store: any Store, over adapter: any Adapter, at address: FabricAddress) throws {
    let layer = CommonLayer()
    try layer.add(Volume(name: "disk", store: store))
    let service = try CompletionService()
    self.service = service
    server = try elsewhere({ service.turn() }, wake: { service.wake() }) {
      try I2OServer(layer: layer, service: service, adapter: adapter, addresses: [address])
    }
    host = try RawHost(
      to: server.addresses[0], adapter: adapter, service: service, turn: { service.turn() })
    host.keepsArrivals = false
    host.send(RequestFrame.outboundInit(wordTo: host.piece(0, 4)).bytes)
    run(until: host.arrivalCount + 1)
  }

  deinit {
    let server = server
    host.close()
    try? elsewhere({ [service] in service.turn() }, wake: { [service] in service.wake() }) {
      server.stop()
    }
  }

  func run(until count: Int) {
    while host.arrivalCount < count { service.turn() }
  }
}

@Suite("I2O: the hot path", .serialized, .untilStuck)
struct HotPathTests {
  enum Fabric: String, CaseIterable, Sendable {
    case sharedMemory, tcp
  }

  /// What so many rounds of reads, writes and a flush allocate in the whole process.
  private func allocations(_ store: any Store, over fabric: Fabric) throws -> UInt64 {
    let thread =
      switch fabric {
      case .sharedMemory:
        try SingleThread(
          store, over: try SharedMemoryAdapter(),
          at: FabricAddress(
            fabric: "shm", endpoint: "/tmp/fabric-i2o-hot-\(UUID().uuidString.prefix(8))"))
      case .tcp:
        try SingleThread(
          store, over: try TCPAdapter(),
          at: FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"))
      }
    let host = thread.host
    let device: UInt16 = 8
    let pieces = [host.piece(0, 1000), host.piece(5000, 3096)]
    let gathered = [
      ScatterElement(.attached, address: 2048, byteCount: 2048),
      ScatterElement(.attached, address: 0, byteCount: 2048),
    ]
    let whole = [ScatterElement(.attached, byteCount: 4096)]
    // A frame and whether data comes with it; made before anything is counted.
    var frames: [(bytes: [UInt8], hasData: Bool)] = []
    for block in 0..<8 as Range<UInt64> {
      let address = block * 4096
      frames += [
        (host.transfer(device, address, 4096, 1, whole, isWrite: true), true),
        (host.transfer(device, address, 4096, 2, gathered, isWrite: true), true),
        (host.transfer(device, address, 4096, 3, pieces), false),
        (host.transfer(device, address, 4096, 4, [host.piece(0, 4096)]), false),
      ]
    }
    frames.append((flushFrame(device), false))
    func round() {
      let end = host.arrivalCount + frames.count
      // An array's iterator allocates where nothing is optimised.
      for index in 0..<frames.count {
        let byteCount = frames[index].hasData ? 4096 : nil
        while host.send(frames[index].bytes, dataByteCount: byteCount) != nil {
          thread.service.turn()
        }
      }
      thread.run(until: end)
    }
    for _ in 0..<200 { round() }
    let before = fabric_allocation_count()
    for _ in 0..<300 { round() }
    return fabric_allocation_count() - before
  }

  @Test("IT-70: messages that move blocks of memory allocate nothing", arguments: Fabric.allCases)
  func memory(_ fabric: Fabric) throws {
    let count = try allocations(try MemoryStore(byteCount: 1 << 20), over: fabric)
    // What a socket's readiness and the passing of time take is nobody's message.
    #expect(count < 10, "of \(300 * 33) messages")
  }

  @Test("IT-70: messages that move blocks of a file allocate nothing")
  func file() throws {
    let path = "/tmp/fabric-i2o-\(UUID().uuidString.prefix(8)).img"
    defer { try? FileManager.default.removeItem(atPath: path) }
    var options = FileStore.Options()
    options.byteCountIfMissing = 1 << 20
    let store = try FileStore.open(path: path, options: options)
    let count = try allocations(store, over: .sharedMemory)
    #expect(count < 10, "of \(300 * 33) messages")
  }
}
