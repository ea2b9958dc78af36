import CAllocationCounter
import FabricCompletion
import FabricFrontEnds
import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import Foundation
import Synchronization
import Testing

@testable import FabricNBD

/// A server and a client on the calling thread.
private final class SingleThread {
  let service: CompletionService
  let path = "/tmp/fabric-nbd-\(UUID().uuidString.prefix(8)).sock"
  private let server: NBDServer
  let client: StreamSocket

  init(_ store: any Store) throws {
    let layer = CommonLayer()
    try layer.add(Volume(name: "disk", store: store))
    let service = try CompletionService()
    self.service = service
    let path = path
    server = try Self.elsewhere(service) {
      try NBDServer(layer: layer, service: service, addresses: [.local(path: path)])
    }
    client = try StreamSocket.connect(toPath: path)
  }

  deinit {
    let server = server
    try? Self.elsewhere(service) { server.stop() }
  }

  /// Runs on another thread what waits for the service's, which is this one.
  private static func elsewhere<Value: Sendable>(
    _ service: CompletionService, _ body: @escaping @Sendable () throws -> Value
  ) throws -> Value {
    let result = Mutex<Result<Value, any Error>?>(nil)
    let place = Box(result)
    Thread.detachNewThread {
      let value = Result { try body() }
      place.value.withLock { $0 = value }
      service.wake()
    }
    service.run(until: { place.value.withLock { $0 != nil } }, deadline: .now + .seconds(20))
    return try #require(place.value.withLock { $0 }).get()
  }

  private final class Box<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: consuming sending Mutex<Value>) { self.value = value }
  }

  /// Sends all of `bytes` and takes turns until `count` bytes have come back.
  func exchange(
    _ bytes: UnsafeRawBufferPointer, _ room: UnsafeMutableRawBufferPointer, _ count: Int
  ) {
    var sent = 0
    var received = 0
    while received < count {
      if sent < bytes.count {
        let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[sent...])
        if case .bytes(let part) = unsafe client.send(rest) { sent &+= part }
      }
      service.turn()
      let place = unsafe UnsafeMutableRawBufferPointer(rebasing: room[..<(count &- received)])
      if case .bytes(let part) = unsafe client.receive(place) { received &+= part }
    }
  }
}

@Suite("NBD: the hot path", .serialized)
struct HotPathTests {
  private func allocations(_ store: any Store, isStructured: Bool) throws -> UInt64 {
    let thread = try SingleThread(store)
    var hello = Wire.clientFlags
    var said = 18 + 20 + 12 + 20 + 14 + 20
    if isStructured {
      hello += Wire.option(NBD.Option.structuredReply)
      said += 20
    }
    hello += Wire.go("disk")
    var requests: [UInt8] = []
    for index in 0..<UInt64(32) {
      requests +=
        Wire.request(.write, cookie: index, offset: index * 4096, length: 4096)
        + [UInt8](repeating: UInt8(index), count: 4096)
      requests += Wire.request(.read, cookie: index + 100, offset: index * 4096, length: 4096)
    }
    requests += Wire.request(.flush, cookie: 200) + Wire.request(.trim, cookie: 9, length: 4096)
    let answered = 32 * 16 + 32 * (4096 + (isStructured ? 28 : 16)) + 2 * 16
    var room = [UInt8](repeating: 0, count: 1 << 20)
    return unsafe room.withUnsafeMutableBytes { room in
      unsafe hello.withUnsafeBytes { unsafe thread.exchange($0, room, said) }
      return unsafe requests.withUnsafeBytes { requests in
        for _ in 0..<200 { unsafe thread.exchange(requests, room, answered) }
        let before = fabric_allocation_count()
        for _ in 0..<500 { unsafe thread.exchange(requests, room, answered) }
        return fabric_allocation_count() - before
      }
    }
  }

  @Test("NB-36: requests to memory allocate nothing", arguments: [false, true])
  func memory(_ isStructured: Bool) throws {
    let store = try MemoryStore(byteCount: 1 << 20)
    #expect(try allocations(store, isStructured: isStructured) == 0)
  }

  @Test("NB-36: requests to a file allocate nothing")
  func file() throws {
    let path = "/tmp/fabric-nbd-\(UUID().uuidString.prefix(8)).img"
    defer { try? FileManager.default.removeItem(atPath: path) }
    var options = FileStore.Options()
    options.byteCountIfMissing = 1 << 20
    #expect(
      try allocations(try FileStore.open(path: path, options: options), isStructured: true) == 0)
  }
}
