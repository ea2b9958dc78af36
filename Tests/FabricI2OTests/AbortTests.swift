import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("I2O: aborts", .untilStuck)
struct AbortTests {
  private func abort(
    _ kind: I2O.AbortKind, _ device: UInt16, function: UInt8 = 0, transaction: UInt32 = 0
  ) -> [UInt8] {
    RequestFrame.abort(
      kind, of: device, function: function, transaction: transaction, context: 99
    ).bytes
  }

  /// The contexts of replies in the order that they came.
  private func order(_ host: RawHost) -> [UInt32] {
    host.arrivals.compactMap { if case .reply(let context, _) = $0 { context } else { nil } }
  }

  private let aborted = ReplyFrame.error(
    .abortNoDataTransfer, .success, transferCount: 0, logicalByteAddress: 0)

  @Test("IT-61, IT-62: a request that waits for the table ends at once, ahead of the abort's reply")
  func table() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    for context in [1, 2] as [UInt32] {
      host.send(
        RequestFrame.tableNotify(knownIndicator: 1, into: host.piece(0, 4096), context: context)
          .bytes)
    }
    let exact = abort(.exact, I2O.processorTID, function: 0xA2, transaction: 2)
    #expect(host.ask(exact, context: 99) == .aborted(count: 1))
    #expect(order(host) == [2, 99])
    #expect(host.replies(to: 2) == [aborted])
    #expect(host.replies(to: 1).isEmpty)
    // Nothing is left of that context, and of other targets nothing is meant.
    #expect(host.ask(exact, context: 99) == .aborted(count: 0))
    #expect(host.ask(abort(.wild, TestServer.disk), context: 99) == .aborted(count: 0))
    #expect(host.ask(abort(.cleanWild, I2O.processorTID), context: 99) == .aborted(count: 1))
    #expect(host.replies(to: 1) == [aborted])
  }

  @Test("IT-62: of a read at the medium nothing is pushed any more, a write ends as it does")
  func atMedium() throws {
    let test = try TestServer(volumes: [try TestServer.volume("slow", fault: "delay=150ms")])
    let host = try RawHost(test)
    host.initialise()
    let slow: UInt16 = 10
    host.fill(0, .init(repeating: 0xEE, count: 8192))
    let data = [UInt8](repeating: 3, count: 4096)
    host.send(host.transfer(slow, 0, 4096, 1, [host.piece(0, 4096)]))
    host.send(
      host.transfer(slow, 0, 4096, 2, [ScatterElement(.attached, byteCount: 4096)], isWrite: true),
      data: data)
    host.send(flushFrame(slow, context: 3))
    #expect(host.ask(abort(.wild, slow), context: 99) == .aborted(count: 1))
    #expect(order(host).last == 99 || order(host).contains(1))
    #expect(host.run { host.replies(to: 2).count + host.replies(to: 3).count == 2 })
    #expect(host.replies(to: 1) == [aborted])
    #expect(host.replies(to: 2) == [.success(transferCount: 4096)])
    #expect(host.replies(to: 3) == [.success(transferCount: 0)])
    let places = order(host)
    #expect(try #require(places.firstIndex(of: 1)) < (try #require(places.firstIndex(of: 99))))
    #expect(host.bytes(0, 8192).allSatisfy { $0 == 0xEE })
    #expect(host.read(slow, block: 0, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(host.bytes(0, 4096) == data)
  }

  @Test(
    "IT-5, IT-62: of many reads the medium has, 16 are answered at once and the rest in the end")
  func many() throws {
    let test = try TestServer(volumes: [try TestServer.volume("slow", fault: "delay=700ms:read")])
    let host = try RawHost(test)
    host.initialise()
    for round in 0..<3 as Range<UInt32> {
      for context in 1...20 as ClosedRange<UInt32> {
        host.send(host.transfer(10, 0, 4096, 100 * round + context, [host.piece(0, 4096)]))
      }
      host.send(abort(.wild, 10))
      #expect(
        host.run(.milliseconds(500)) { host.replyCount >= 21 * Int(round) + (round == 0 ? 16 : 0) })
      #expect(host.run { host.replyCount == 21 * Int(round + 1) })
    }
    #expect(host.replies(to: 99).allSatisfy { $0 == .aborted(count: 20) })
    #expect(host.closeReason == nil)
    #expect(host.run { test.server.freeReadBufferCount == 256 })
  }

  @Test("IT-60, IT-62: what waits for a buffer is taken out of the line")
  func inLine() throws {
    var options = I2OServer.Options()
    options.readBufferCount = 2
    let test = try TestServer(
      options: options, volumes: [try TestServer.volume("slow", fault: "delay=300ms:read")])
    let host = try RawHost(test)
    host.initialise()
    let slow: UInt16 = 10
    // One is at the medium: a user leaves as many buffers as it has. The others wait.
    for context in 1...6 as ClosedRange<UInt32> {
      host.send(host.transfer(slow, 0, 4096, context, [host.piece(Int(context) * 4096, 4096)]))
    }
    let exact = abort(.transaction, slow, transaction: 4)
    #expect(host.ask(exact, context: 99) == .aborted(count: 1))
    #expect(order(host) == [4, 99])
    #expect(host.ask(abort(.function, slow, function: 0x30), context: 99) == .aborted(count: 5))
    for context in [1, 2, 3, 5, 6] as [UInt32] {
      #expect(host.replies(to: context) == [aborted], "\(context)")
    }
    #expect(host.read(slow, block: 0, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(host.run { test.server.freeReadBufferCount == 2 })
  }
}
