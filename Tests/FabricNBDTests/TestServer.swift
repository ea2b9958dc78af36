import FabricCompletion
import FabricFrontEnds
import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import Foundation
import Synchronization
import TestSupport

@testable import FabricNBD

/// A server of some volumes at a Unix socket.
final class TestServer {
  let path = "/tmp/fabric-nbd-\(UUID().uuidString.prefix(8)).sock"
  let layer = CommonLayer()
  let service: CompletionService
  let server: NBDServer

  init(
    _ volumes: [Volume], depth: Int = 128, rights: VolumeRights? = nil,
    _ adjust: (inout FrontEndOptions) -> Void = { _ in }
  ) throws {
    for volume in volumes { try layer.add(volume) }
    var serviceOptions = CompletionService.Options()
    serviceOptions.threadCount = 1
    service = try CompletionService(serviceOptions)
    var options = FrontEndOptions()
    options.rights = rights
    adjust(&options)
    server = try NBDServer(
      layer: layer, service: service, addresses: [.local(path: path)], depth: depth,
      options: options)
  }

  convenience init(memory byteCount: UInt64 = 1 << 20, depth: Int = 128) throws {
    try self.init(
      [Volume(name: "disk", store: try MemoryStore(byteCount: byteCount))], depth: depth)
  }

  deinit {
    server.stop()
    service.stop()
  }

  func client() throws -> PlainClient { try PlainClient(path: path) }

  /// A client past the handshake.
  func session(_ name: String = "disk", isStructured: Bool = false) throws -> PlainClient {
    let client = try client()
    var options = Wire.clientFlags
    var expected = 18 + 20 + 12 + 20 + 14 + 20
    if isStructured {
      options +=
        Wire.option(NBD.Option.structuredReply)
        + Wire.context(NBD.Option.setMetaContext, name, ["base:allocation"])
      expected += 20 + 20 + 4 + 15 + 20
    }
    try client.send(options + Wire.go(name))
    _ = try client.receive(expected)
    return client
  }
}

extension PlainClient {
  /// The next simple reply: its error and cookie.
  func simpleReply() throws -> (error: UInt32, cookie: UInt64) {
    let bytes = try receive(16)
    return Wire.view(bytes) { ($0.big32(at: 4), $0.big64(at: 8)) }
  }

  /// The next chunk of a structured reply.
  func chunk() throws -> (isLast: Bool, type: UInt16, cookie: UInt64, payload: [UInt8]) {
    let header = try receive(20)
    let (isLast, type, cookie, length) = Wire.view(header) {
      ($0.big16(at: 4) == 1, $0.big16(at: 6), $0.big64(at: 8), Int($0.big32(at: 16)))
    }
    return (isLast, type, cookie, try receive(length))
  }
}
