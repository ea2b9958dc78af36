import CAllocationCounter
import FabricCompletion
import FabricNBDProtocol
import FabricPlatform
import FabricStorage
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("The end of a device's socket", .untilStuck)
struct NBDEndTests {
  /// How the kernel's part ends.
  enum Ending: CaseIterable { case disconnection, hangUp, otherMagic, half }

  @Test(
    "HD-74: however it ends it is told once, with requests under way or without",
    arguments: Ending.allCases, [0, 3])
  func endings(_ ending: Ending, _ count: Int) throws {
    let plan = FaultPlan(delays: [.init(.milliseconds(20), of: .read)])
    let bench = try NBDBench(plan: plan)
    var bytes: [UInt8] = []
    for index in 0..<count {
      bytes += NBDBench.request(.read, cookie: UInt64(index), byteCount: 4096)
    }
    switch ending {
    case .disconnection: bytes += NBDBench.request(.disconnect)
    case .otherMagic: bytes += NBDBench.request(type: 0, magic: NBD.simpleReplyMagic)
    // In the middle of what is written.
    case .half:
      bytes += NBDBench.request(.write, byteCount: 4096) + [1, 2, 3]
    case .hangUp: break
    }
    bench.send(bytes)
    bench.turn { bench.device.requests.figures.inFlightCount == count }
    if ending == .half || ending == .hangUp { bench.kernel.hangUp() }
    #expect(bench.turn { bench.device.hasEnded })
    // What was under way ends, and nothing more is told.
    #expect(bench.turn { bench.device.requests.figures.inFlightCount == 0 })
    bench.device.arm()
    for _ in 0..<20 { bench.service.turn() }
    #expect(bench.ends.count == 1)
    #expect(bench.kernel.peerHasEnded)
  }

  @Test("HD-74: closed, what was under way ends with an error before the socket does")
  func closing() throws {
    let plan = FaultPlan(delays: [.init(.seconds(60), of: .read)])
    let bench = try NBDBench(plan: plan)
    for index in 0..<3 {
      bench.send(NBDBench.request(.read, cookie: UInt64(index), byteCount: 4096))
    }
    bench.turn { bench.device.requests.figures.inFlightCount == 3 }
    bench.close()
    var cookies: [UInt64] = []
    while let reply = bench.reply() {
      #expect(reply.error == NBD.ErrorCode.shutdown.rawValue)
      cookies.append(reply.cookie)
    }
    #expect(cookies.sorted() == [0, 1, 2])
    #expect(bench.ends.isEmpty)
  }
}

@Suite("What a device's NBD requests allocate", .serialized, .untilStuck)
struct NBDAllocationTests {
  @Test("HD-71: requests allocate nothing", arguments: NBDBench.Fabric.allCases)
  func allocations(_ fabric: NBDBench.Fabric) throws {
    let bench = try NBDBench(fabric, depth: 32)
    var bytes: [UInt8] = []
    for index in 0..<16 {
      bytes += NBDBench.request(.write, offset: index * 8192, byteCount: 8192)
      bytes += NBDBench.pattern(8192)
      bytes += NBDBench.request(.read, offset: (index + 16) * 8192, byteCount: 8192)
    }
    bytes += NBDBench.request(.flush)
    let replyByteCount = 33 * 16 + 16 * 8192
    var room = [UInt8](repeating: 0, count: replyByteCount)
    func round(_ bytes: UnsafeRawBufferPointer, _ room: UnsafeMutableRawBufferPointer) {
      var sent = 0
      var received = 0
      while received < replyByteCount {
        if sent < bytes.count {
          let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[sent...])
          if case .bytes(let count) = unsafe bench.kernel.send(rest) { sent &+= count }
        }
        if bench.service.turn() == 0 { SystemThread.yield() }
        let place = unsafe UnsafeMutableRawBufferPointer(rebasing: room[received...])
        if case .bytes(let count) = unsafe bench.kernel.receive(place) { received &+= count }
      }
    }
    let count = unsafe bytes.withUnsafeBytes { bytes in
      unsafe room.withUnsafeMutableBytes { room in
        for _ in 0..<100 { unsafe round(bytes, room) }
        // What the fabric keeps grows to the most that is under way at once, which on a busy machine
        // takes a while to come.
        var count: UInt64 = 1
        for _ in 0..<5 where count > 0 {
          let before = fabric_allocation_count()
          // As long as both ends' clocks need to come round, too.
          let end = MonotonicTime.now + .milliseconds(2500)
          while .now < end { unsafe round(bytes, room) }
          count = fabric_allocation_count() - before
        }
        return count
      }
    }
    #expect(count == 0)
    #expect(bench.device.requests.figures.errorCount == 0)
  }
}

@Suite("Generic netlink")
struct GenericNetlinkTests {
  @Test("HD-70: attributes are found among others, and not where a length is wrong")
  func attributes() {
    var inner = NetlinkAttributes()
    inner.add(1, UInt32(7))
    var outer = NetlinkAttributes()
    outer.add(3, text: "four!")
    outer.add(9, inner)
    outer.add(2, UInt64(0x0102_0304_0506_0708))
    outer.add(4, UInt16(5))
    #expect(outer.bytes.count % 4 == 0)
    #expect(Array(outer.bytes.prefix(12)) == [10, 0, 3, 0] + Array("four!".utf8) + [0, 0, 0])
    #expect(outer.find(2, as: UInt64.self) == 0x0102_0304_0506_0708)
    #expect(outer.find(4, as: UInt16.self) == 5)
    #expect(outer.find(4, as: UInt64.self) == nil)
    #expect(outer.find(5, as: UInt16.self) == nil)
    for count in 0..<outer.bytes.count {
      let cut = NetlinkAttributes(Array(outer.bytes.prefix(count)))
      #expect(cut.find(4, as: UInt16.self) == nil || count >= outer.bytes.count - 2)
    }
    #expect(NetlinkAttributes([0, 0, 4, 0, 5, 0, 0, 0]).find(4, as: UInt16.self) == nil)
    #expect(NetlinkAttributes([255, 255, 4, 0, 5, 0, 0, 0]).find(4, as: UInt16.self) == nil)
  }

  @Test("HD-70: a family that the kernel has is found, another one is not")
  func families() throws {
    do throws(Errno) {
      _ = try GenericNetlink("nlctrl", version: 2)
    } catch {
      // Where processes may not use netlink at all.
      #expect(error != .noSuchFileOrDirectory)
    }
    #expect(throws: Errno.self) { _ = try GenericNetlink("fabric-none", version: 1) }
  }
}
