import FabricCompletion
import FabricPlatform
import Foundation
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: hostile front ends and guests", .untilStuck)
struct VhostUserHostileTests {
  @Test("VU-10, VU-13: a stream that makes no sense ends, and the next front end is served")
  func streams() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let streams: [[UInt8]] = [
      FrontEnd.words(1, 0, 0), FrontEnd.words(1, 5, 0), FrontEnd.words(1, 1, 1 << 30),
      // Nobody asks for an answer.
      FrontEnd.words(77, 1, 0), FrontEnd.words(8, 1, 8, 99, 8), FrontEnd.words(5, 1, 8, 1, 0),
    ]
    for stream in streams {
      let frontEnd = try bench.connect()
      var bytes = stream
      try unsafe bytes.withUnsafeMutableBytes {
        try unsafe frontEnd.socket.sendPassing(UnsafeRawBufferPointer($0))
      }
      #expect(frontEnd.reply() == nil, "\(stream)")
    }
    let frontEnd = try bench.connect()
    #expect(frontEnd.ask(.getFeatures) != nil)
    #expect(bench.log.values.contains { $0.hasPrefix("hung up on process") })
  }

  @Test("VU-10: a message in pieces is one message, and two at once are two")
  func pieces() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    let both = FrontEnd.words(1, 1, 0) + FrontEnd.words(15, 1, 0)
    for byte in both {
      var one = [byte]
      try unsafe one.withUnsafeMutableBytes {
        try unsafe frontEnd.socket.sendPassing(UnsafeRawBufferPointer($0))
      }
      bench.service.turn()
    }
    var count = 0
    frontEnd.run {
      var room = [UInt8](repeating: 0, count: 64)
      if case .bytes(let got, _, _) = unsafe room.withUnsafeMutableBytes({
        unsafe frontEnd.socket.receivePassing($0)
      }) {
        count += got
      }
      return count == 40
    }
    #expect(count == 40)
  }

  @Test("VU-13: with answers on demand a refusal is an answer, and the connection goes on")
  func refusals() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    #expect(!frontEnd.tell(.setQueueSize, FrontEnd.words(0, 128)))
    #expect(!frontEnd.tell(.setQueueBase, FrontEnd.words(0, 1)))
    #expect(!frontEnd.tell(.setQueueSize, FrontEnd.words(9, 128)))
    #expect(!frontEnd.tell(.setFeatures, FrontEnd.longs(1 << 33)))
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
  }

  @Test("VU-14: kicks and calls go by event descriptors alone, backward requests by a stream alone")
  func descriptors() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    frontEnd.negotiate()
    let file = try MemoryFile(name: "file", byteCount: 4096)
    for code in [VhostUser.Code.setQueueKick, .setQueueCall, .setQueueError] {
      #expect(
        !frontEnd.tell(code, FrontEnd.longs(0), descriptors: [file.descriptor.rawValue]))
    }
    #expect(!frontEnd.tell(.setBackEndSocket, descriptors: [file.descriptor.rawValue]))
    #expect(frontEnd.tell(.setQueueCall, FrontEnd.longs(0x100)))
  }

  @Test("VU-20: memory that could be made shorter, or is shorter than was said, is not taken")
  func memory() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    frontEnd.negotiate()
    func offer(_ region: RegionDescription, _ descriptor: CInt) -> Bool {
      frontEnd.tell(
        .setMemoryTable, FrontEnd.words(1, 0) + FrontEnd.bytes(region), descriptors: [descriptor])
    }
    let path = bench.directory + "/plain"
    _ = FileManager.default.createFile(atPath: path, contents: Data(count: 1 << 20))
    let plain = try Descriptor.opening(path)
    var region = bench.memory.region
    region.byteCount = 1 << 20
    #expect(!offer(region, plain.rawValue))
    region = bench.memory.region
    region.byteCount += 4096
    #expect(!offer(region, bench.memory.file.descriptor.rawValue))
    region.byteCount = 1 << 62
    #expect(!offer(region, bench.memory.file.descriptor.rawValue))
    region = bench.memory.region
    region.fileOffset = 4096
    #expect(!offer(region, bench.memory.file.descriptor.rawValue))
    #expect(frontEnd.setMemory())
    #expect(bench.log.values.contains { $0.contains("sealed against shrinking") })
  }

  @Test(
    "VU-36: a queue whose guest breaks the rules stops, others go on, and it can be started again")
  func brokenQueue() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    let other = MachineQueue(bench.memory, size: 64, base: 0x2000)
    try frontEnd.start(other, number: 1)
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    queue.offer(64)
    frontEnd.kicks[0].signal()
    #expect(frontEnd.run { frontEnd.hasEvent(frontEnd.errors[0]) })
    #expect(bench.log.values.contains { $0.contains("queue 0") && $0.contains("is broken") })
    other.add(MachineRequest(type: 4, place: 0x8000).pieces(in: bench.memory))
    frontEnd.kicks[1].signal()
    #expect(frontEnd.run { !other.reap().isEmpty })
    #expect(frontEnd.ask(.getQueueBase, FrontEnd.words(0, 0)) != nil)
    bench.memory.fill(0, at: 0, count: queue.byteCount)
    let fresh = MachineQueue(bench.memory, size: 64, base: 0)
    #expect(frontEnd.tell(.setQueueBase, FrontEnd.words(0, 0)))
    let word = FrontEnd.longs(0)
    #expect(frontEnd.tell(.setQueueKick, word, descriptors: [frontEnd.kicks[0].number]))
    #expect(frontEnd.perform(4, on: fresh)?.status == 0)
  }

  @Test("VU-32, VU-36: rings and descriptors of noise end queues at most, never the process")
  func noise() throws {
    let bench = try VhostUserBench()
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<30 {
      let (frontEnd, queue) = try bench.start(size: 16)
      for _ in 0..<20 {
        for offset in 0..<queue.byteCount where Int.random(in: 0..<4, using: &generator) == 0 {
          bench.memory.put(UInt8.random(in: 0...3, using: &generator), at: offset)
        }
        frontEnd.kicks[0].signal()
        for _ in 0..<5 { bench.service.turn() }
      }
      StreamSocket.end(frontEnd.socket)
      #expect(frontEnd.run { bench.device?.session == nil })
      bench.memory.fill(0, at: 0, count: 0x1000)
    }
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
  }
}
