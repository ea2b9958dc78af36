import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import Testing

@testable import FabricNVMeFabrics

@Suite("NVMe/RDMA: what hostile hosts tried")
struct RDMAHostileTests {
  @Test("data that no descriptor names is refused, and goes nowhere (NR-3)")
  func namelessData() throws {
    let unit = try RDMAUnit()
    let host = try RDMAHostPair(unit, entryCount: 2).io
    let nothing = DataPointer(low: 0, high: 0)
    for opcode in [Opcode.IO.verify, Opcode.IO.flush, Opcode.IO.writeZeroes] {
      let command = host.io(opcode, count: 32, data: nothing)
      #expect(try host.run(command, data: [1]).status == .descriptorTypeInvalid)
      #expect(try host.run(command, data: pattern(4096)).status == .descriptorTypeInvalid)
    }
    #expect(try host.run(host.io(Opcode.IO.verify, count: 32)).status == .success)
  }

  @Test("a controller that is reset has all of its receives again (NR-2)")
  func resets() throws {
    let unit = try RDMAUnit()
    let admin = try RDMAHost(unit, entryCount: 32)
    _ = try admin.becomeAdmin()
    for round in 0..<30 {
      for number in 0..<4 as Range<UInt16> {
        try admin.send(
          Command(opcode: Opcode.Admin.asynchronousEventRequest, identifier: 100 + number))
      }
      for enable in [0, 1] as [UInt32] {
        var command = admin.enableCommand()
        command.dword12 = enable
        #expect(try admin.run(command).status == .success, "round \(round)")
      }
    }
  }

  @Test("Connect and Keep Alive do not wait for buffers (NR-9)")
  func withoutBuffers() throws {
    // All that there is is owed by a host whose reads are never answered.
    let unit = try RDMAUnit { $0.bufferCount = 2 }
    let silent = try RDMAHostPair(unit).io
    for number in 0..<8 as Range<UInt16> {
      try silent.send(
        silent.io(
          Opcode.IO.write, count: 8, identifier: number, data: silent.data(byteCount: 32768)))
    }
    let other = try RDMAHostPair(unit)
    var identify = Command(opcode: Opcode.Admin.identify)
    identify.dword10 = 1
    identify.data = other.admin.data(byteCount: 4096)
    #expect(try other.admin.run(identify).status == .success)
    #expect(try other.admin.run(Command(opcode: Opcode.Admin.keepAlive)).status == .success)
  }

  @Test("Connect asks for what the connection request asked for (NR-1)")
  func oneQueue() throws {
    let unit = try RDMAUnit()
    let admin = try RDMAHost(unit, entryCount: 32)
    let controller = try admin.becomeAdmin()
    let other = try RDMAHost(unit, queue: 1)
    let end = try other.connect(queue: 2, controller: controller)
    #expect(end.status == .connectInvalidParameters && end.result == 42)
    let long = try RDMAHost(unit, queue: 1, entryCount: 32)
    let refused = try long.connect(queue: 1, controller: controller, size: 32)
    #expect(refused.status == .connectInvalidParameters && refused.result == 44)
    let right = try RDMAHost(unit, queue: 1, entryCount: 32)
    #expect(try right.connect(queue: 1, controller: controller, size: 31).status == .success)
  }
}
