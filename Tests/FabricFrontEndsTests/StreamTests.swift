import FabricFrontEnds
import FabricPlatform
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite("Front ends: streams")
struct StreamTests {
  private let path = "/tmp/fabric-echo-\(UUID().uuidString.prefix(8)).sock"

  private func message(_ count: Int, _ seed: Int) -> [UInt8] {
    let length = (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
    return length + (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) }
  }

  @Test("messages of all sizes, many at once and cut anywhere, come back whole and in order")
  func echo() throws {
    let unit = try EchoFrontEnd([.local(path: path)])
    let client = try PlainClient(path: path)
    let sizes = [1, 3, 4096, 70_000, 131_072, 131_073, 5, 900_000, 2, 1]
    let all = sizes.enumerated().flatMap { message($1, $0) }
    Thread.detachNewThread { [all] in try? client.sendPieces(all) }
    #expect(try client.receive(all.count) == all)
    _ = unit
  }

  @Test("a peer that does not read is not read from, and loses nothing")
  func backPressure() throws {
    let unit = try EchoFrontEnd([.local(path: path)])
    let client = try PlainClient(path: path)
    let one = message(65_536, 7)
    let many = Array(repeatElement(one, count: 200).joined())
    let sent = client.sendSome(many)
    // What there is room for; the rest of 13 MB stays with us.
    #expect(sent < many.count)
    Thread.detachNewThread { try? client.send(Array(many[sent...])) }
    for _ in 0..<200 { #expect(try client.receive(one.count) == one) }
    _ = unit
  }

  @Test("streams that need more buffers than there are all get on")
  func fairness() throws {
    var options = FrontEndOptions()
    options.bufferCount = 2
    let unit = try EchoFrontEnd([.local(path: path)], options: options)
    let clients = try (0..<4).map { _ in try PlainClient(path: path) }
    let one = message(100_000, 1)
    // Who does not read keeps what it was to be sent: each is read from.
    let ended = DispatchGroup()
    let right = Atomic<Int>(0)
    for client in clients {
      let all = Array(repeatElement(one, count: 20).joined())
      Thread.detachNewThread { try? client.send(all) }
      ended.enter()
      Thread.detachNewThread {
        for _ in 0..<20 where (try? client.receive(one.count)) == one {
          right.add(1, ordering: .relaxed)
        }
        ended.leave()
      }
    }
    #expect(ended.wait(timeout: .now() + 60) == .success)
    #expect(right.load(ordering: .relaxed) == 80)
    _ = unit
  }

  @Test("a stream is closed behind what is queued, also when more comes")
  func closing() throws {
    let unit = try EchoFrontEnd([.local(path: path)])
    let client = try PlainClient(path: path)
    let one = message(500_000, 3)
    try client.send(one + [0, 0, 0, 0] + [1, 2, 3])
    #expect(try client.receive(one.count) == one)
    #expect(client.seesEnd())
    client.endDirection()
    unit.frontEnd.stop()
    #expect(unit.ends.reasons.withLock { $0 } == [.closed])
  }

  @Test("TCP: port 0 is told, both families are served; who is silent has to go")
  func addresses() throws {
    var options = FrontEndOptions()
    options.handshakeTimeout = .milliseconds(50)
    let places = try InternetAddress.resolve("127.0.0.1:0") + InternetAddress.resolve("[::1]:0")
    let unit = try EchoFrontEnd(
      places.map { .internet($0) }, options: options, isShy: true)
    for address in unit.frontEnd.addresses {
      guard case .internet(let place) = address else { return }
      #expect(place.port != 0)
      let client = try PlainClient(place)
      #expect(client.seesEnd())
    }
    unit.frontEnd.stop()
    #expect(unit.ends.reasons.withLock { $0 } == [.handshakeTimeout, .handshakeTimeout])
  }

  @Test("of one origin only so many are let in; who said nothing makes room")
  func limits() throws {
    var options = FrontEndOptions()
    options.connectionsPerOrigin = 2
    let known = try EchoFrontEnd([.local(path: path)], options: options)
    let two = try (0..<2).map { _ in try PlainClient(path: path) }
    for client in two {
      try client.send(message(1, 1))
      _ = try client.receive(5)
    }
    #expect(try PlainClient(path: path).seesEnd())
    known.frontEnd.stop()
    let shy = try EchoFrontEnd([.local(path: path)], options: options, isShy: true)
    let three = try (0..<3).map { _ in try PlainClient(path: path) }
    #expect(three[0].seesEnd())
    try three[2].send(message(1, 9))
    _ = try three[2].receive(5)
    _ = (known, shy)
  }

  @Test("a socket that was left behind is taken over, one in use is not, and goes at the end")
  func staleSockets() throws {
    do { _ = try StreamSocket.listen(atPath: path) }
    #expect(FileKind.isSocket(path))
    let unit = try EchoFrontEnd([.local(path: path)])
    #expect(throws: FrontEndError.self) { try EchoFrontEnd([.local(path: path)]) }
    unit.frontEnd.stop()
    #expect(!FileKind.isSocket(path))
  }

  @Test("stopping ends every stream, and a second stop has no effect")
  func stopping() throws {
    let unit = try EchoFrontEnd([.local(path: path)])
    let clients = try (0..<5).map { _ in try PlainClient(path: path) }
    try clients[0].send(message(10, 1))
    _ = try clients[0].receive(14)
    unit.frontEnd.stop()
    for client in clients { #expect(client.seesEnd()) }
    unit.frontEnd.stop()
  }
}
