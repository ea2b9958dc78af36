import FabricCompletion
import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("I2O: hostile hosts", .untilStuck)
struct HostileTests {
  /// Whether the unit still serves, and has all of its buffers.
  private func isWell(_ test: TestServer) throws -> Bool {
    let host = try RawHost(test)
    guard host.initialise(),
      host.read(block: 0, into: [host.piece(0, 4096)]) == .success(transferCount: 4096)
    else { return false }
    return host.run {
      test.server.freeReadBufferCount == I2OServer.Options().readBufferCount
    }
  }

  @Test("IT-2: another kind or tag ends the channel, and that only")
  func kinds() throws {
    let test = try TestServer()
    for (kind, tag) in [(1, 0), (0, 0), (I2O.messageKind, 1)] as [(UInt16, UInt32)] {
      let other = try RawHost(test)
      other.initialise()
      let host = try RawHost(test)
      host.send(words(0x0003_0001, 0x0000_1000, 0), kind: kind, tag: tag)
      #expect(host.run { host.closeReason != nil })
      #expect(other.read(block: 0, into: [other.piece(0, 4096)]) == .success(transferCount: 4096))
    }
    #expect(try isWell(test))
    #expect(test.lines.values.contains { $0.contains("is no frame; the channel is closed") })
  }

  @Test("IT-3: what is no frame ends the channel", arguments: [0, 8, 13, 512 + 4])
  func noFrames(_ byteCount: Int) throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    host.send([UInt8](repeating: 1, count: byteCount), data: byteCount > 512 ? [1] : nil)
    #expect(host.run { host.closeReason != nil } || byteCount > 512)
    #expect(try isWell(test))
  }

  @Test("IT-4: NOP has no reply, and everything else one")
  func replies() throws {
    let test = try TestServer()
    let host = try RawHost(test)
    host.initialise()
    let before = host.arrivals.count
    for _ in 0..<1000 {
      while host.send(words(0x0003_0001, 0x0000_1009, 3)) != nil { host.service.turn() }
    }
    // A function that there is not, a device that there is not, a frame that says too much.
    for (index, word) in [(1, 0x2A00_1009), (2, 0x3000_1FFF), (3, 0x3000_1009)] {
      let size: UInt32 = index == 3 ? 9 : 5
      let frame = words(size << 16 | 0x81, UInt32(word), 7, UInt32(index), 0)
      // So many NOPs may have used up the credit.
      while host.send(frame) != nil { host.service.turn() }
    }
    #expect(host.run { host.arrivals.count == before + 3 })
    #expect(
      host.arrivals.suffix(3) == [
        .reply(context: 1, .fault(MessageFault(.unknownFunction, at: 7))),
        .reply(context: 2, .failure(.invalidTarget)),
        .reply(context: 3, .failure(.frameTooSmall)),
      ])
    // The initiator's context is the one that was given.
    #expect(host.frames.suffix(3).allSatisfy { Array($0[8..<12]) == [7, 0, 0, 0] })
  }

  @Test("IT-5: one message more than the unit takes ends the channel")
  func depth() throws {
    var options = I2OServer.Options()
    options.depth = 4
    let test = try TestServer(options: options)
    let host = try RawHost(test)
    host.initialise()
    for context in 1...5 as ClosedRange<UInt32> {
      host.send(
        RequestFrame.tableNotify(knownIndicator: 1, into: host.piece(0, 4096), context: context)
          .bytes)
    }
    #expect(!host.run(.milliseconds(200)) { host.closeReason != nil })
    host.send(flushFrame(TestServer.disk))
    #expect(host.run { host.closeReason != nil })
    #expect(host.replies(to: 7).isEmpty)
    #expect(test.lines.values.contains { $0.contains("more than the 5 messages") })
    #expect(try isWell(test))
  }

  @Test("IT-32: a handle that is none ends the channel of who gave it, and no other")
  func handles() throws {
    let test = try TestServer()
    let other = try RawHost(test)
    other.initialise()
    let host = try RawHost(test)
    host.initialise()
    var piece = host.piece(0, 4096)
    piece.handle ^= 0x5555
    host.send(host.transfer(TestServer.disk, 0, 4096, 5, [piece]))
    #expect(host.run { host.closeReason != nil })
    // Another host's memory is no better.
    let second = try RawHost(test)
    second.initialise()
    second.send(second.transfer(TestServer.disk, 0, 4096, 5, [other.piece(0, 4096)]))
    #expect(second.run { second.closeReason != nil })
    #expect(other.read(block: 0, into: [other.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(try isWell(test))
  }

  @Test("IT-3, IT-13: noise for frames and data never takes the unit down", arguments: 1...6)
  func noise(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let test = try TestServer()
    var host = try RawHost(test)
    host.initialise()
    for _ in 0..<300 {
      if host.closeReason != nil {
        host = try RawHost(test)
        if Bool.random(using: &random) { host.initialise() }
      }
      var frame = TransferFrame()
      frame.target = Bool.random(using: &random) ? 8 : 9
      frame.isWrite = Bool.random(using: &random)
      frame.elements = (0..<Int.random(in: 1...3, using: &random)).map { index in
        frame.isWrite
          ? ScatterElement(.attached, address: UInt64(index) * 1024, byteCount: 2048)
          : host.piece(index * 4096, 2048)
      }
      frame.byteCount = UInt32(frame.elements.count) * 2048
      var bytes = frame.bytes
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        let index = Int.random(in: 0..<40, using: &random)
        bytes[index] = UInt8.random(in: 0...255, using: &random)
      }
      let data = (0..<2048).map { _ in UInt8.random(in: 0...255, using: &random) }
      host.send(bytes, data: Bool.random(using: &random) ? data : nil)
      host.service.turn()
    }
    // What it has asked for and not taken would keep buffers.
    host.close()
    #expect(try isWell(test), "seed \(seed)")
  }

  @Test("IT-4: a host that goes with messages under way leaves nothing behind")
  func gone() throws {
    let test = try TestServer(volumes: [try TestServer.volume("slow", fault: "delay=20ms")])
    for _ in 0..<5 {
      let host = try RawHost(test)
      host.initialise()
      for context in 1...40 as ClosedRange<UInt32> {
        host.send(host.transfer(10, 0, 4096, context, [host.piece(0, 4096)]))
      }
      host.send(
        RequestFrame.tableNotify(knownIndicator: 1, into: host.piece(0, 4096), context: 50).bytes)
      host.service.turn()
      host.close()
    }
    let host = try RawHost(test)
    #expect(host.run { test.server.connectionCount == 0 })
    #expect(try isWell(test))
  }

  @Test("IT-73: who takes no data while others wait for buffers is hung up on")
  func stalled() throws {
    var options = I2OServer.Options()
    options.readBufferCount = 2
    options.stallTimeout = .milliseconds(300)
    let test = try TestServer(options: options)
    let idle = try RawHost(test)
    idle.initialise()
    // What is written to it is done when it polls, and it does not.
    idle.send(idle.transfer(TestServer.disk, 0, 4096, 5, [idle.piece(0, 4096)]))
    let host = try RawHost(test)
    host.initialise()
    #expect(host.read(block: 0, into: [host.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(test.lines.values.contains { $0.contains("takes no data while others wait") })
    #expect(idle.run { idle.closeReason != nil })
    #expect(host.closeReason == nil)
  }

  @Test("IT-16: keys and rights: who may what, and what is not there")
  func rights() throws {
    var options = I2OServer.Options()
    options.rights = VolumeRights([
      .init(host: "raw", volume: "disk", access: .readOnly),
      .init(host: "web1", volume: nil, access: .readWrite),
    ])
    let test = try TestServer(options: options)
    let raw = try RawHost(test)
    raw.initialise()
    #expect(raw.read(block: 0, into: [raw.piece(0, 4096)]) == .success(transferCount: 4096))
    #expect(
      raw.write(block: 0, .init(repeating: 1, count: 4096))
        == .error(.errorNoDataTransfer, .writeProtected, transferCount: 0, logicalByteAddress: 0))
    #expect(
      raw.read(TestServer.book, block: 0, into: [raw.piece(0, 4096)]) == .failure(.invalidTarget))
    let table = RequestFrame.tableNotify(
      knownIndicator: 0, into: raw.piece(0, 4096), context: 1)
    #expect(raw.ask(table.bytes, context: 1) == .success(transferCount: 48))
    let web = try RawHost(test, greeting: I2OHostOpening(hostName: "web1").encoded())
    web.initialise()
    #expect(web.write(block: 0, .init(repeating: 1, count: 4096)) == .success(transferCount: 4096))
    let nobody = try RawHost(test, greeting: I2OHostOpening(hostName: "nobody").encoded())
    nobody.initialise()
    #expect(
      nobody.read(block: 0, into: [nobody.piece(0, 4096)]) == .failure(.invalidTarget))
  }

  @Test("IT-6: hosts of one address have a part of the channels")
  func parts() throws {
    var options = I2OServer.Options()
    options.channelsPerOrigin = 2
    let test = try TestServer(options: options)
    let first = try RawHost(test)
    first.initialise()
    var second: RawHost? = try RawHost(test)
    second?.initialise()
    #expect(try RawHost(test).refusal != nil)
    #expect(test.lines.values.contains { $0.contains("more than the 2 channels") })
    second?.close()
    second = nil
    #expect(first.run { test.server.connectionCount == 1 })
    let third = try RawHost(test)
    #expect(third.initialise())
  }
}
