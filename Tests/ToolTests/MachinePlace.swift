import FabricHostDevices
import FabricPlatform
import Foundation
import TestMachine
import TestSupport
import Testing

/// Volumes of a unit as disks of virtual machines, by `iohost attach`; the machine is the test's.
final class MachinePlace {
  let place: LoopPlace
  let memory: MachineMemory
  /// At the beginning of the machine's memory.
  let queue: MachineQueue

  init(_ volume: String, isOverTCP: Bool = false, listens: [String] = []) throws {
    place = try LoopPlace(volume, isOverTCP: isOverTCP, listens: listens)
    memory = try MachineMemory()
    queue = MachineQueue(memory, size: 64, base: 0, hasEventIndex: false)
  }

  var socket: String { place.file("v.sock") }

  /// Attaches the volume `disk`, also by `others`.
  func offer(_ others: String...) throws {
    let tool = try Tool(
      "iohost",
      ["attach", place.url("disk"), "--as", "vhost-user:\(socket)"] + others
        + ["--state-dir", place.stateDirectory])
    try #require(tool.waitForEnd(limit: 30) == 0, "\(tool.errors)")
    #expect(tool.output == [socket])
  }

  /// A front end that has an answer. One that comes while a dead process's socket is still about to end is
  /// hung up on, and comes again.
  func connect() throws -> FrontEnd {
    var frontEnd: FrontEnd?
    _ = place.waits {
      frontEnd = try? FrontEnd(path: socket, memory: memory)
      return frontEnd?.ask(.getFeatures) != nil
    }
    return try #require(frontEnd, "\(log)")
  }

  /// What a front end gives back after it has lost its back end.
  struct Inflight {
    let payload: [UInt8]
    let file: PassedDescriptor
    let mapping: Mapping

    /// How many requests the back end has noted: a byte of each entry, behind a head of 16.
    var notedCount: Int { (1...64).count { unsafe mapping.bytes[$0 * 16] != 0 } }
  }

  /// Starts the machine's queue, with what was under way, or from the beginning.
  func start(_ frontEnd: FrontEnd, _ inflight: Inflight? = nil) throws -> Inflight {
    // Without the event index each batch is called for.
    frontEnd.negotiate(without: .eventIndex)
    let kept: Inflight
    if let inflight {
      kept = inflight
    } else {
      let wanted = FrontEnd.longs(0, 0) + [1, 0, 64, 0] + [0, 0, 0, 0]
      let reply = try #require(frontEnd.ask(.getInflightMemory, wanted))
      let file = try #require(reply.descriptors.first)
      let mapping = try Mapping.shared(file.descriptor, byteCount: 4096, access: .readWrite)
      kept = Inflight(payload: reply.payload, file: file, mapping: mapping)
    }
    #expect(frontEnd.tell(.setInflightMemory, kept.payload, descriptors: [kept.file.number]))
    #expect(frontEnd.setMemory())
    try frontEnd.start(queue, base: queue.usedIndex)
    return kept
  }

  /// Writes of one block each, of the blocks in order.
  func write(_ count: Int, by frontEnd: FrontEnd) -> [MachineRequest] {
    let requests = (0..<count).map { index in
      let data = MachinePiece(offset: 0x10_0000 + index * 4096, count: 4096)
      memory.fill(UInt8(0x50 + index), at: data.offset, count: 4096)
      let request = MachineRequest(
        type: 1, sector: UInt64(index * 8), data: [data], place: 0x9000 + index * 64)
      queue.add(request.pieces(in: memory))
      return request
    }
    frontEnd.kicks[0].signal()
    return requests
  }

  /// Whether those blocks hold what `write` wrote.
  func hasWritten(_ count: Int, by frontEnd: FrontEnd) -> Bool {
    let back = MachinePiece(offset: 0x20_0000, count: count * 4096, isWritable: true)
    memory.fill(0, at: back.offset, count: back.count)
    return frontEnd.perform(0, [back], on: queue)?.status == 0
      && (0..<count).allSatisfy {
        memory.holds(UInt8(0x50 + $0), at: back.offset + $0 * 4096, count: 4096)
      }
  }

  /// How many requests are under way, as `iohost list` says.
  func underWayCount() throws -> Int { try place.status()["inFlight"] as? Int ?? 0 }

  func paths() throws -> [[String: Any]] {
    let tool = try place.host("paths", "--json")
    let list = try JSONSerialization.jsonObject(with: Data(tool.output.joined().utf8))
    return try #require(
      (list as? [[String: Any]])?.first?["paths"] as? [[String: Any]], "\(tool.errors)")
  }

  /// Nothing is left: no entry, no socket, no process. An entry goes before its processes do.
  func expectNothingLeft(
    of processes: [Int], location: SourceLocation = #_sourceLocation
  ) throws {
    #expect(!Self.isThere(socket), sourceLocation: location)
    _ = place.waits { processes.allSatisfy(Self.hasEnded) }
    try place.expectNothingLeft(of: processes, location: location)
  }

  private static func hasEnded(_ process: Int) -> Bool {
    let state = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
    return state.map { $0.contains(") Z ") } ?? true
  }

  static func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  typealias Processes = (worker: Int, other: Int)

  /// Waits until other processes serve the device and watch over it.
  func processes(after old: Processes) throws -> Processes {
    var found: Processes?
    _ = try place.waits {
      guard let status = try statusIfAny(), let worker = status["pid"] as? Int,
        let other = status["guardPID"] as? Int
      else { return false }
      found = (worker, other)
      return worker != old.worker && other != old.other
    }
    return try #require(found, "\(log)")
  }

  /// Waits until another process serves the device.
  func waitForAnother(than worker: Int) throws {
    #expect(
      try place.waits { try statusIfAny().map { $0["pid"] as? Int != worker } ?? false }, "\(log)")
  }

  private func statusIfAny() throws -> [String: Any]? {
    let tool = try place.host("list", "--json")
    let list = try? JSONSerialization.jsonObject(with: Data(tool.output.joined().utf8))
    return (list as? [[String: Any]])?.first
  }

  /// Of the device; empty when there is none.
  var log: String {
    (try? String(contentsOfFile: "\(place.stateDirectory)/disk/log", encoding: .utf8)) ?? ""
  }
}
