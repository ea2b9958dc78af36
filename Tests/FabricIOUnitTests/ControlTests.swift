import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import Foundation
import TestSupport
import Testing

@Suite("I/O unit: control calls", .untilStuck)
struct ControlTests {
  /// Calls and waits for the answer.
  private func call(
    _ host: TestHost, _ code: ControlCode, _ payload: [UInt8] = [], by path: Int? = nil
  ) throws -> ControlAnswer {
    var found: ControlAnswer?
    host.queue.control(ControlCall(code, payload: payload), by: path) { found = $0 }
    host.run { found != nil }
    return try #require(found)
  }

  @Test("IO-70 to IO-73: what may be asked is answered, with result and payload")
  func answers() throws {
    let scratch = try Scratch()
    let path = scratch.file("g.img")
    let unit = try TestUnit(scratch) { _ in
      [
        Volume(
          name: "g",
          store: try FileStore.open(path: path, options: .init(byteCountIfMissing: 1 << 20)))
      ]
    }
    let host = try TestHost(unit.address("g"))
    #expect(host.run { host.isAttached })
    let identity = try ControlIdentity(decoding: try call(host, .identify).payload)
    #expect(identity.volumeName == "g" && identity.blockCount == 256)
    #expect(identity.identifier == host.queue.info?.identifier)
    #expect(try call(host, .blockSize) == ControlAnswer(result: 4096))
    #expect(try call(host, .setBlockSize, [0, 16, 0, 0]) == ControlAnswer(result: 4096))
    #expect(try call(host, .rescan).result == 0)
    let file = try FileHandle(forWritingTo: URL(filePath: path))
    try file.truncate(atOffset: 2 << 20)
    #expect(
      try call(host, .rescan) == ControlAnswer(result: 1, payload: [0, 2, 0, 0, 0, 0, 0, 0]))
    #expect(try call(host, .pathState, by: 0) == ControlAnswer(result: 0))
    #expect(host.perform(.write, 3, 2)?.status == .success)
    #expect(host.perform(.read, 3, 1)?.status == .success)
    let health = try ControlHealth(decoding: try call(host, .health).payload)
    #expect(health.writeCount == 1 && health.writtenByteCount == 8192)
    #expect(health.readCount == 1 && health.readByteCount == 4096 && health.mediaErrorCount == 0)
  }

  @Test("IO-74: what cannot be done has its errno: ENOTTY, EINVAL, EROFS, EOPNOTSUPP")
  func refusals() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    let host = try TestHost(unit.address("m"))
    #expect(host.run { host.isAttached })
    #expect(try call(host, ControlCode(rawValue: 0)) == ControlAnswer(errno: ENOTTY))
    #expect(try call(host, ControlCode(rawValue: 99)) == ControlAnswer(errno: ENOTTY))
    #expect(try call(host, ControlCode(rawValue: 0x8000_0000)) == ControlAnswer(errno: ENOTTY))
    #expect(try call(host, .sanitise) == ControlAnswer(errno: EOPNOTSUPP))
    for code in [ControlCode.identify, .blockSize, .setBlockSize, .rescan, .pathState, .health] {
      #expect(try call(host, code, [1]) == ControlAnswer(errno: EINVAL))
    }
    #expect(try call(host, .setBlockSize, [0, 2, 0, 0]).errno == EINVAL)
    var options = RemoteVolumeQueue.Options()
    options.access = .readOnly
    let reader = try TestHost(unit.address("m"), options: options)
    #expect(reader.run { reader.isAttached })
    #expect(try call(reader, .setBlockSize, [0, 16, 0, 0]).errno == EROFS)
    #expect(try call(host, .blockSize, by: 7).errno == ENOTCONN)
  }

  @Test("A vendor's calls go to whom the unit's program says, with the host's name")
  func vendors() throws {
    let scratch = try Scratch()
    var options = IOUnitServer.Options()
    options.vendorCall = { host, volume, call in
      guard call.code.rawValue == 0x8000_0007 else { return nil }
      return ControlAnswer(
        errno: 0, result: Int32(call.payload.count),
        payload: Array("\(host.suffix(4)) \(volume.name)".utf8) + call.payload)
    }
    let unit = try TestUnit(scratch, options: options)
    let host = try TestHost(unit.address("m"))
    #expect(host.run { host.isAttached })
    let answer = try call(host, ControlCode(rawValue: 0x8000_0007), [1, 2, 3])
    #expect(answer.result == 3)
    #expect(answer.payload == Array("host m".utf8) + [1, 2, 3])
    #expect(try call(host, ControlCode(rawValue: 0x8000_0008)).errno == ENOTTY)
  }

  @Test("IO-75: a call waits for a unit that is away; a queue that is closed ends it")
  func losses() throws {
    let scratch = try Scratch()
    var unit: TestUnit? = try TestUnit(scratch, memoryByteCount: 0) { _ in
      [
        Volume(
          name: "f",
          store: try FileStore.open(
            path: scratch.file("f.img"), options: .init(byteCountIfMissing: 1 << 20)))
      ]
    }
    let host = try TestHost(unit!.address("f"))
    #expect(host.run { host.isAttached })
    unit = nil
    #expect(host.run { !host.isAttached })
    var answers: [ControlAnswer] = []
    for _ in 0..<RemoteVolumeQueue.maximumControlCount {
      host.queue.control(ControlCall(.blockSize)) { answers.append($0) }
    }
    host.queue.control(ControlCall(.blockSize)) { #expect($0.errno == EAGAIN) }
    #expect(answers.isEmpty)
    unit = try TestUnit(scratch, memoryByteCount: 0) { _ in
      [Volume(name: "f", store: try FileStore.open(path: scratch.file("f.img")))]
    }
    #expect(host.run { answers.count == RemoteVolumeQueue.maximumControlCount })
    #expect(answers.allSatisfy { $0 == ControlAnswer(result: 4096) })
    unit = nil
    #expect(host.run { !host.isAttached })
    host.queue.control(ControlCall(.blockSize)) { answers.append($0) }
    host.queue.close()
    #expect(answers.last?.errno == ESHUTDOWN)
    host.queue.control(ControlCall(.blockSize)) { #expect($0.errno == ESHUTDOWN) }
    _ = unit
  }

  @Test("IO-70: a malformed call ends the channel")
  func violations() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    var bytes = ControlCall(.identify, payload: [1]).encoded()
    bytes[4] = 2
    let host = try RawHost(unit, volume: "m")
    #expect(host.run { host.isReady })
    host.send(kind: MessageKind.control.rawValue, tag: 1, bytes)
    #expect(host.run { host.closeReason != nil })
  }
}
