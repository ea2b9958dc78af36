import FabricCompletion
import FabricHostDriver
import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("A device's socket of the kernel's NBD client", .untilStuck)
struct NBDQueueTests {
  @Test(
    "HD-72: what is written is read, also longer than the unit takes; zeroed it reads as zeroes",
    arguments: NBDBench.Fabric.allCases)
  func requests(_ fabric: NBDBench.Fabric) throws {
    let bench = try NBDBench(fabric)
    let data = NBDBench.pattern(NBDQueue.transferByteCount)
    #expect(data.count > (try #require(bench.info).maximumTransferByteCount))
    #expect(bench.write(data, at: 8192, flags: .forceUnitAccess) == 0)
    // Not compared in the macro, which would print both.
    let isSame = bench.read(data.count, at: 8192) == data
    #expect(isSame)
    #expect(bench.perform(.flush) == 0)
    #expect(bench.perform(.trim, offset: 8192, byteCount: 4096) == 0)
    #expect(bench.perform(.writeZeroes, flags: .noHole, offset: 12288, byteCount: 4096) == 0)
    let zeroes = [UInt8](repeating: 0, count: 8192)
    #expect(bench.read(16384, at: 8192) == zeroes + data[8192..<16384])
    #expect(bench.perform(.writeZeroes, byteCount: NBDBench.byteCount) == 0)
    #expect(bench.perform(.cache, byteCount: 4096) == 0)
    let figures = bench.device.requests.figures
    #expect(figures.readCount == 2 && figures.readByteCount == UInt64(data.count + 16384))
    #expect(figures.writeCount == 1 && figures.writeByteCount == UInt64(data.count))
    #expect(figures.flushCount == 1 && figures.zeroingCount == 3 && figures.errorCount == 0)
    #expect(figures.inFlightCount == 0)
  }

  @Test(
    "HD-71: requests come in whatever pieces the socket makes of them",
    arguments: [1, 27, 29, 447, 449, 4096, 5000, .max])
  func pieces(_ piece: Int) throws {
    let bench = try NBDBench(depth: 4)
    // Short ones, of which a part comes with the request before, and long ones.
    let lengths = [4096, 8192, 4096, 65536, 4096]
    var bytes: [UInt8] = []
    var offset = 0
    for (index, length) in lengths.enumerated() {
      let data = NBDBench.pattern(length, seed: UInt64(index))
      bytes += NBDBench.request(
        .write, cookie: UInt64(index), offset: offset, byteCount: length)
      bytes += data
      bytes += NBDBench.request(.flush, cookie: 100)
      offset += length
    }
    bench.send(bytes, piece: piece)
    var cookies: [UInt64] = []
    for _ in 0..<10 {
      let reply = try #require(bench.reply())
      #expect(reply.error == 0)
      cookies.append(reply.cookie)
    }
    #expect(cookies.sorted() == [0, 1, 2, 3, 4, 100, 100, 100, 100, 100])
    offset = 0
    for (index, length) in lengths.enumerated() {
      #expect(bench.read(length, at: offset) == NBDBench.pattern(length, seed: UInt64(index)))
      offset += length
    }
  }

  @Test("HD-71: more requests than slots wait in the socket, as do replies that nobody takes")
  func bounds() throws {
    let bench = try NBDBench(depth: 4)
    let length = 256 << 10
    let count = 40
    let data = (0..<8).map { NBDBench.pattern(length, seed: UInt64($0)) }
    for index in 0..<8 { #expect(bench.write(data[index], at: index * length) == 0) }
    // Nobody takes the replies: at last all slots are full of them.
    for index in 0..<count {
      let request = NBDBench.request(
        .read, cookie: UInt64(index), offset: index % 8 * length, byteCount: length)
      guard case .bytes(request.count) = bench.kernel.send(request) else {
        Issue.record("the socket has no room for \(index) requests")
        return
      }
    }
    bench.turn { bench.device.requests.figures.readCount >= 4 }
    for _ in 0..<1000 { bench.service.turn() }
    #expect(bench.device.requests.figures.readCount < count)
    // The service sleeps until there is room.
    bench.device.arm()
    for _ in 0..<count {
      let reply = try #require(bench.reply())
      #expect(reply.error == 0)
      #expect(bench.receive(length) == data[Int(reply.cookie) % 8])
    }
    #expect(bench.device.requests.figures.inFlightCount == 0)
  }

  @Test("HD-73: what fails has an error; what comes behind it is carried out")
  func failures() throws {
    let plan = FaultPlan(failures: [
      .init(.mediaReadError, of: .read, blocks: 7...7),
      .init(.mediaWriteError, of: .write, blocks: 9...9),
      .init(.flushFailed, of: .flush, first: 1, count: 1),
    ])
    let bench = try NBDBench(plan: plan)
    let data = NBDBench.pattern(4096)
    #expect(bench.perform(.read, offset: 7 * 4096, byteCount: 4096) == 5)
    #expect(bench.write(data, at: 9 * 4096) == 5)
    #expect(bench.perform(.flush) == 5)
    #expect(bench.perform(.flush) == 0)
    #expect(bench.write(data, at: 0) == 0)
    #expect(bench.read(4096, at: 0) == data)
    #expect(bench.device.requests.figures.errorCount == 3)
  }

  @Test("HD-73: what the device does not take is refused, with its data passed over")
  func refusals() throws {
    let bench = try NBDBench()
    let end = NBDBench.byteCount
    let data = NBDBench.pattern(4096)
    // Beyond the end, not of whole blocks, of no bytes, and longer than a slot's memory.
    #expect(bench.write(data, at: end) == NBD.ErrorCode.noSpace.rawValue)
    #expect(bench.write([1, 2, 3], at: 0) == NBD.ErrorCode.invalid.rawValue)
    #expect(bench.write([], at: 0) == NBD.ErrorCode.invalid.rawValue)
    let long = NBDBench.pattern(NBDQueue.transferByteCount + 4096)
    #expect(bench.write(long, at: 0) == NBD.ErrorCode.invalid.rawValue)
    #expect(
      bench.perform(.read, byteCount: long.count) == NBD.ErrorCode.invalid.rawValue)
    #expect(bench.perform(.blockStatus, byteCount: 4096) == NBD.ErrorCode.invalid.rawValue)
    #expect(bench.perform(.flush, offset: 4096) == NBD.ErrorCode.invalid.rawValue)
    bench.send(NBDBench.request(type: 77, cookie: 5, byteCount: 0xFFFF_FFFF))
    #expect(bench.reply() == NBDBench.Reply(error: 22, cookie: 5))
    bench.send(
      NBDBench.request(
        type: NBD.Command.read.rawValue, cookie: 6, offset: .max - 4095, byteCount: 4096))
    #expect(bench.reply() == NBDBench.Reply(error: 22, cookie: 6))
    #expect(bench.write(data, at: 0) == 0)
    #expect(bench.read(4096, at: 0) == data)
    #expect(bench.device.requests.figures.errorCount == 9)
  }

  @Test("HD-73: of a device that may only be read nothing is changed")
  func readOnly() throws {
    let bench = try NBDBench(isReadOnly: true)
    let data = NBDBench.pattern(8192)
    #expect(bench.write(data, at: 0) == NBD.ErrorCode.notPermitted.rawValue)
    #expect(bench.perform(.trim, byteCount: 4096) == NBD.ErrorCode.notPermitted.rawValue)
    #expect(bench.read(8192, at: 0) == [UInt8](repeating: 0, count: 8192))
  }
}
