import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import TestSupport
import Testing

/// Hosts that keep buffers while others wait.
@Suite("NVMe over its transports: stalls")
struct StallTests {
  /// A machine without memory for buffers.
  private struct Nothing: DataMemorySource {
    func makeMemory(byteCount: Int) -> DataMemory? { nil }
  }

  private static func isScarce(_ options: inout FrontEndOptions) {
    options.bufferCount = 4
    options.stallTimeout = .milliseconds(200)
  }

  @Test("who owes data that others' buffers wait for is hung up on, and nobody else (NT-10)")
  func overTCP() throws {
    let unit = try TCPUnit { Self.isScarce(&$0) }
    let silent = try HostPair(unit).io
    // All that one host may have.
    for number in 0..<2 as Range<UInt16> {
      try silent.client.send(
        silent.capsule(
          silent.io(
            Opcode.IO.write, count: 8, identifier: number, data: .transport(byteCount: 32768))))
      #expect(try silent.receive().kind == .readyToTransfer)
    }
    let other = try HostPair(unit).io
    try other.client.send(
      other.capsule(
        other.io(Opcode.IO.write, count: 8, identifier: 5, data: .transport(byteCount: 32768))))
    // Comes once the silent one is gone.
    let asked = try other.receive()
    #expect(asked.kind == .readyToTransfer)
    #expect(silent.client.seesEnd())
    try other.client.send(other.hostData(asked.transfer, pattern(32768), isLast: true))
    #expect(try other.receive().completion.status == .success)
  }

  @Test("a host that does not let its data be fetched is hung up on when others wait (NR-8)")
  func overRDMA() throws {
    let unit = try RDMAUnit { Self.isScarce(&$0) }
    // It answers reads while it is polled, and it is not.
    let silent = try RDMAHostPair(unit).io
    for number in 0..<2 as Range<UInt16> {
      try silent.send(
        silent.io(
          Opcode.IO.write, count: 8, identifier: number, data: silent.data(byteCount: 32768)))
    }
    let other = try RDMAHostPair(unit).io
    // Three at once are more than there is room for.
    try other.wait("the silent one to be hung up on") {
      for number in 5..<8 as Range<UInt16> {
        try other.send(
          other.io(
            Opcode.IO.write, count: 8, identifier: number, data: other.data(byteCount: 32768)))
      }
      for _ in 5..<8 { #expect(try other.receive().status == .success) }
      return unit.server.connectionCount == 3
    }
    try silent.awaitEnd()
    #expect(silent.completions.isEmpty)
  }

  @Test("without memory a command fails, and the connection goes on (NT-9)")
  func withoutMemory() throws {
    let unit = try TCPUnit { $0.memory = Nothing() }
    let host = try HostPair(unit).io
    let write = host.io(Opcode.IO.write, count: 8, data: .transport(byteCount: 32768))
    #expect(try host.run(write).completion.status == .internalError)
    // A capsule's data has memory of its connection's own.
    let small = host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096))
    #expect(try host.run(small, data: pattern(4096)).completion.status == .success)
  }

  private static func slow() throws -> [(name: String, store: any Store)] {
    let plan = try FaultPlan(parsing: "delay=100ms")
    return [("slow", FaultStore(over: try MemoryStore(byteCount: 1 << 20), plan: plan))]
  }

  private static let disconnect = Command(
    opcode: Opcode.fabrics, identifier: 2, namespace: UInt32(Opcode.Fabrics.disconnect))

  @Test("a queue that is disconnected answers what is under way, and nothing new (NT-11)")
  func disconnectOverTCP() throws {
    let unit = try TCPUnit(Self.slow())
    let host = try HostPair(unit).io
    let write = host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096))
    try host.client.send(
      host.capsule(write, data: pattern(4096)) + host.capsule(Self.disconnect)
        + host.capsule(host.io(Opcode.IO.flush, identifier: 3)))
    let ends = try (0..<3).map { _ in try host.receive().completion }
    #expect(ends.map(\.identifier) == [2, 3, 1])
    #expect(ends.map(\.status) == [.success, .commandSequenceError, .success])
    #expect(host.client.seesEnd())
  }

  @Test("a queue pair that is disconnected answers what is under way (NR-6)")
  func disconnectOverRDMA() throws {
    let unit = try RDMAUnit(Self.slow())
    let host = try RDMAHostPair(unit).io
    let write = host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096))
    try host.send(write, data: pattern(4096))
    try host.send(Self.disconnect)
    let ends = try (0..<2).map { _ in try host.receive() }
    #expect(ends.map(\.identifier) == [2, 1])
    #expect(ends.map(\.status) == [.success, .success])
    try host.awaitEnd()
  }

  @Test("data that no descriptor names is refused, also without a buffer (NT-3)")
  func namelessData() throws {
    let unit = try TCPUnit { $0.memory = Nothing() }
    let host = try HostPair(unit).io
    let verify = host.io(Opcode.IO.verify, count: 32)
    #expect(
      try host.run(verify, data: pattern(16)).completion.status == .descriptorTypeInvalid)
    let flush = host.io(Opcode.IO.flush)
    #expect(try host.run(flush, data: pattern(16)).completion.status == .descriptorTypeInvalid)
    #expect(try host.run(flush).completion.status == .success)
  }
}
