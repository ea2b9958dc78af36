import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricNBDProtocol
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricTCP
import FabricVerbs
import FabricWire
import Testing

import class Foundation.FileManager
import func Foundation.NSTemporaryDirectory
import struct Foundation.UUID

@testable import FabricHostDevices

/// A unit with a volume in memory, one of a device's sockets on the calling thread, and its other end,
/// where the test plays the kernel.
final class NBDBench: RemoteVolumeHandler {
  enum Fabric: String, CaseIterable { case shm, tcp }

  static let byteCount = 4 << 20
  let directory = NSTemporaryDirectory() + "fabric-nbd-device-\(UUID().uuidString.prefix(8))"
  let service: CompletionService
  private let server: IOUnitServer
  let plan: FaultPlan?
  private(set) var volume: RemoteVolumeQueue!
  private(set) var device: NBDQueue!
  let kernel: StreamSocket
  private(set) var info: RemoteVolumeInfo?
  /// What the device told of its end.
  private(set) var ends: [String] = []
  private var hasClosed = false

  init(
    _ fabric: Fabric = .shm, depth: Int = 8, plan: FaultPlan? = nil, isReadOnly: Bool = false
  ) throws {
    self.plan = plan
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    service = try CompletionService()
    let adapters: (any Adapter, any Adapter) =
      fabric == .shm
      ? (try SharedMemoryAdapter(), try SharedMemoryAdapter())
      : (try TCPAdapter(), try TCPAdapter())
    let layer = CommonLayer()
    let unitFabric = try UnitFabric(adapters.0)
    let memory = try unitFabric.makeMemoryStore(byteCount: UInt64(Self.byteCount))
    let store: any Store = plan.map { FaultStore(over: memory, plan: $0) } ?? memory
    try layer.add(Volume(name: "m", store: store))
    server = try IOUnitServer(
      layer: layer, fabric: unitFabric,
      address: fabric == .shm
        ? FabricAddress(fabric: "shm", endpoint: directory + "/unit.sock")
        : FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"))
    let pair = try StreamSocket.localPair()
    kernel = pair.1
    let address = VolumeAddress(unit: server.address, volumeName: "m")
    volume = try RemoteVolumeQueue(
      address, adapter: adapters.1, service: service, handler: self)
    volume.attach()
    turn { info != nil }
    device = try NBDQueue(
      volume, info: try #require(info), socket: pair.0, number: 3, depth: depth,
      isReadOnly: isReadOnly
    ) { [unowned self] event in
      if case .ended(let words) = event { ends.append(words) }
    }
    service.add(device as any ProgressSource)
  }

  deinit {
    close()
    server.stop()
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// As `NBDVolume` does.
  func close() {
    guard !hasClosed else { return }
    hasClosed = true
    volume.close()
    device.finishBatch()
    device.close()
    service.remove(device as any ProgressSource)
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    guard let device else { return }
    for place in completions.indices {
      let mark = completions[place].tag
      precondition(mark >> 16 == 3, "tags have the socket's number")
      device.partEnded(Int(mark & 0xffff), completions[place].status)
    }
    device.finishBatch()
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    if case .attached(let info) = state { self.info = info }
  }

  // MARK: The kernel's part

  /// Takes turns until `condition` holds; false when that takes too long.
  @discardableResult
  func turn(until condition: () -> Bool) -> Bool {
    // A machine with all the other tests at once is slow.
    let deadline = MonotonicTime.now + .seconds(600)
    while !condition() {
      if service.turn() == 0 { SystemThread.yield() }
      if MonotonicTime.now > deadline { return false }
    }
    return true
  }

  static func request(
    _ command: NBD.Command, flags: NBD.CommandFlags = [], cookie: UInt64 = 1, offset: Int = 0,
    byteCount: Int = 0
  ) -> [UInt8] {
    request(
      type: command.rawValue, flags: flags.rawValue, cookie: cookie, offset: UInt64(offset),
      byteCount: UInt32(byteCount))
  }

  static func request(
    type: UInt16, flags: UInt16 = 0, cookie: UInt64 = 1, offset: UInt64 = 0,
    byteCount: UInt32 = 0, magic: UInt32 = NBD.requestMagic
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(magic)
    bytes.appendBig(flags)
    bytes.appendBig(type)
    bytes.appendBig(cookie)
    bytes.appendBig(offset)
    bytes.appendBig(byteCount)
    return bytes
  }

  /// Sends all bytes, in pieces of at most so many.
  func send(_ bytes: [UInt8], piece: Int = .max) {
    var rest = bytes[...]
    turn {
      while !rest.isEmpty {
        guard case .bytes(let count) = kernel.send(rest.prefix(piece)) else { return false }
        rest = rest.dropFirst(count)
        if piece < .max { service.turn() }
      }
      return true
    }
    #expect(rest.isEmpty, "the socket takes no more")
  }

  /// Receives so many bytes; nil when the socket is hung up, or nothing more comes.
  func receive(_ byteCount: Int) -> [UInt8]? {
    var bytes: [UInt8] = []
    var hasEnded = false
    turn {
      switch kernel.receive(into: &bytes, limit: min(byteCount - bytes.count, 1 << 16)) {
      case .bytes, .wouldBlock: return bytes.count == byteCount
      case .end, .failed:
        hasEnded = true
        return true
      }
    }
    return hasEnded || bytes.count < byteCount ? nil : bytes
  }

  struct Reply: Equatable {
    var error: UInt32
    var cookie: UInt64
  }

  /// The next reply's header.
  func reply() -> Reply? {
    guard let bytes = receive(NBD.simpleReplyByteCount) else { return nil }
    return unsafe bytes.withUnsafeBytes { raw in
      let view = unsafe WireView(raw)
      #expect(view.big32(at: 0) == NBD.simpleReplyMagic)
      return Reply(error: view.big32(at: 4), cookie: view.big64(at: 8))
    }
  }

  /// Carries out one request that is not a read, and returns its error.
  func perform(
    _ command: NBD.Command, flags: NBD.CommandFlags = [], offset: Int = 0, byteCount: Int = 0,
    data: [UInt8] = []
  ) -> UInt32? {
    let cookie = UInt64.random(in: 0...(.max))
    send(
      Self.request(
        command, flags: flags, cookie: cookie, offset: offset, byteCount: byteCount) + data)
    let reply = reply()
    #expect(reply?.cookie == cookie)
    return reply?.error
  }

  func write(
    _ data: [UInt8], at offset: Int, flags: NBD.CommandFlags = []
  ) -> UInt32? {
    perform(.write, flags: flags, offset: offset, byteCount: data.count, data: data)
  }

  func read(_ byteCount: Int, at offset: Int) -> [UInt8]? {
    guard perform(.read, offset: offset, byteCount: byteCount) == 0 else { return nil }
    return receive(byteCount)
  }

  /// Bytes that differ with their place.
  static func pattern(_ byteCount: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var page: [UInt8] = (0..<4096).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 33)
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount + page.count)
    while bytes.count < byteCount {
      let number = bytes.count / page.count
      page[0] = UInt8(truncatingIfNeeded: number)
      page[1] = UInt8(truncatingIfNeeded: number >> 8)
      bytes += page
    }
    bytes.removeLast(bytes.count - byteCount)
    return bytes
  }
}
