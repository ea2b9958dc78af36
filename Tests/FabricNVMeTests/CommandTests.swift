import FabricNVMe
import FabricStorage
import FabricWire
import Testing

@Suite("NVMe: commands")
struct CommandTests {
  private func io(_ opcode: UInt8, _ block: UInt64 = 0, dword12: UInt32 = 0) -> Command {
    var command = Command(opcode: opcode, identifier: 3, namespace: 1)
    command.dword10 = UInt32(truncatingIfNeeded: block)
    command.dword11 = UInt32(truncatingIfNeeded: block >> 32)
    command.dword12 = dword12
    return command
  }

  private func translated(_ command: Command) -> (status: Status, command: IOCommand) {
    Controller.translate(command, blockShift: 12)
  }

  @Test("reads, writes and compares become requests for blocks (NV-20)")
  func transfers() {
    let read = translated(io(Opcode.IO.read, 1 << 40, dword12: 7))
    #expect(read.status == .success && read.command.request.operation == .read)
    #expect(read.command.request.block == 1 << 40 && read.command.request.blockCount == 8)
    #expect(read.command.byteCount == 32768 && read.command.direction == .toHost)
    let write = translated(io(Opcode.IO.write, 5, dword12: 0xFFFF | 1 << 30)).command
    #expect(write.request.operation == .write && write.request.flags == .forceUnitAccess)
    #expect(write.byteCount == 1 << 28 && write.direction == .fromHost)
    let compare = translated(io(Opcode.IO.compare, 5)).command
    #expect(compare.request.operation == .compare && compare.direction == .fromHost)
    for flags in [0x41, 0x42, 0x00, 0xC0] as [UInt8] {
      var command = io(Opcode.IO.read)
      command.flags = flags
      #expect(translated(command).status == .invalidField)
    }
  }

  @Test("what moves no data, too; reservations are refused (NV-12, NV-20, NV-21, NV-22)")
  func others() {
    #expect(translated(io(Opcode.IO.flush)).command.request.operation == .flush)
    #expect(translated(io(Opcode.IO.flush)).command.request.blockCount == 0)
    let zeroes = translated(io(Opcode.IO.writeZeroes, 9, dword12: 3 | 1 << 25 | 1 << 30)).command
    #expect(zeroes.request.operation == .writeZeroes && zeroes.request.blockCount == 4)
    #expect(zeroes.request.flags == .forceUnitAccess && zeroes.direction == .none)
    #expect(
      translated(io(Opcode.IO.writeUncorrectable)).command.request.operation
        == .writeUncorrectable)
    #expect(translated(io(Opcode.IO.verify, dword12: 1)).command.form == .pieces)
    for opcode in [0x0D, 0x0E, 0x11, 0x15, 0x79, 0x19] as [UInt8] {
      #expect(translated(io(opcode)).status == .invalidOpcode)
    }
  }

  @Test("Dataset Management deallocates ranges, and takes hints (NV-21)")
  func ranges() {
    var command = Command(opcode: Opcode.IO.datasetManagement, namespace: 1)
    command.dword10 = 1
    #expect(translated(command).command.form == .nothing)
    command.dword11 = 0b100
    let ranges = translated(command).command
    #expect(ranges.form == .ranges && ranges.byteCount == 32 && ranges.direction == .fromHost)
    var data = [UInt8](repeating: 0, count: 32)
    data[4] = 8
    data[8] = 64
    withView(data) { view in
      let first = Controller.range(0, of: view)
      #expect(first?.operation == .deallocate && first?.block == 64 && first?.blockCount == 8)
      #expect(Controller.range(1, of: view) == nil)
    }
  }

  @Test("statuses of the store have their names here (NV-24)")
  func statuses() {
    for (status, code) in [
      (BlockStatus.success, 0x000), (.invalidField, 0x002), (.lbaOutOfRange, 0x080),
      (.readOnly, 0x020), (.mediaReadError, 0x281), (.mediaWriteError, 0x280),
      (.compareFailure, 0x285), (.capacityExceeded, 0x081), (.flushFailed, 0x280),
      (.aborted, 0x007), (.unsupported, 0x001), (.internalError, 0x006),
    ] {
      #expect(Status(status).rawValue == code)
    }
    #expect(BlockStatus.allCases.count == 12)
  }

  @Test("entries are read as they are written, and whether to try again is said (NV-24)")
  func entries() {
    var command = io(Opcode.IO.read, 77, dword12: 1)
    command.data = .transport(byteCount: 8192)
    let bytes = encoded(Command.byteCount) { command.encode(into: $0) }
    withView(bytes) { view in
      let read = Command(view)
      #expect(read.identifier == 3 && read.namespace == 1 && read.dword10 == 77)
      #expect(read.data.form == .transport && read.data.byteCount == 8192)
    }
    #expect(DataPointer.inCapsule(offset: 4, byteCount: 512).form == .inCapsule)
    for (status, word) in [
      (Status.success, 0), (.invalidField, 0x8004), (.writeFault, 0x280 << 1),
    ] as [(Status, UInt16)] {
      let bytes = encoded(16) {
        Completion(9, status, result: 1, submissionHead: 4).encode(into: $0)
      }
      #expect(bytes.number(14, 2) == UInt64(word) && bytes.number(12, 2) == 9)
      #expect(bytes.number(8, 4) == 4)
      withView(bytes) { #expect(Completion($0).status == status) }
    }
  }

  private func encoded(_ byteCount: Int, _ encode: (WireBuffer) -> Void) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xA5, count: byteCount)
    unsafe bytes.withUnsafeMutableBytes { raw in encode(unsafe WireBuffer(raw)) }
    return bytes
  }
}
