import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import Foundation
import FabricVerbs
import TestSupport
import Testing

/// What a foreign reader of NVMe/TCP makes of a real run.
@Suite("NVMe/TCP: capture", .serialized)
struct CaptureTests {
  @Test(
    "tshark dissects every PDU of a real run and finds none malformed (NT-1, NT-3, NT-4, NT-6)",
    .enabled(if: PacketCapture.isPossible, "\(PacketCapture.whyNot)"), .untilStuck)
  func everyPDU() throws {
    let unit = try TCPUnit()
    let address = try unit.address
    let capture = try PacketCapture(port: address.port) {
      _ = try? StreamSocket.connect(to: address)
    }
    let pair = try HostPair(unit)
    var identify = Command(opcode: Opcode.Admin.identify)
    identify.data = .transport(byteCount: 4096)
    identify.dword10 = 1
    #expect(try pair.admin.run(identify).data.count == 4096)
    #expect(try pair.admin.receive().completion.status == .success)
    let host = pair.io
    #expect(
      try host.run(
        host.io(Opcode.IO.write, block: 1, data: .inCapsule(byteCount: 4096)), data: pattern(4096)
      ).completion.status == .success)
    try host.client.send(
      host.capsule(host.io(Opcode.IO.write, count: 8, data: .transport(byteCount: 32768))))
    let asked = try host.receive().transfer
    try host.client.send(
      host.hostData(
        PDU.Transfer(command: asked.command, tag: asked.tag, offset: 0, byteCount: 32768),
        pattern(32768), isLast: true))
    #expect(try host.receive().completion.status == .success)
    #expect(
      try host.run(host.io(Opcode.IO.read, data: .transport(byteCount: 4096))).data.count == 4096)
    #expect(try host.receive().completion.status == .success)
    // And the end that is no host's fault but this one's.
    var bytes = host.capsule(host.io(Opcode.IO.flush))
    bytes[2] = 71
    try host.client.send(bytes)
    #expect(try host.receive().kind == .controllerTerminate)
    let text = try capture.dissect(
      "nvme-tcp,nvme", until: "C2HTermReq", ["-d", "tcp.port==\(address.port),nvme-tcp"])
    #expect(!text.contains("Malformed"), "\(text.suffix(4000))")
    for words in [
      "ICReq", "ICResp", "CapsuleCommand", "CapsuleResponse", "R2T", "H2CData", "C2HData",
    ] {
      #expect(text.contains(words), "no \(words)")
    }
  }

  @Test(
    "tshark finds nothing malformed in a run over user-space iWARP (NR-2, NR-3, NR-4)",
    .enabled(if: PacketCapture.isPossible, "\(PacketCapture.whyNot)"), .untilStuck)
  func overQueuePairs() throws {
    let unit = try RDMAUnit()
    let address = try InternetAddress.resolve(unit.address.endpoint)[0]
    let capture = try PacketCapture(port: address.port) {
      _ = try? StreamSocket.connect(to: address)
    }
    let host = try RDMAHostPair(unit).io
    host.put(pattern(32768))
    let data = host.data(byteCount: 32768)
    for command in [
      host.io(Opcode.IO.write, count: 8, data: data), host.io(Opcode.IO.read, count: 8, data: data),
    ] {
      #expect(try host.run(command).status == .success)
    }
    #expect(
      try host.run(
        host.io(Opcode.IO.write, data: .inCapsule(byteCount: 4096)), data: pattern(4096)
      ).status == .success)
    // Its end tells that all before is captured.
    try host.send(host.io(Opcode.IO.read, data: host.data(byteCount: 4096, key: 1)))
    try host.awaitEnd()
    let text = try capture.dissect("iwarp_mpa,iwarp_ddp_rdmap", until: "Terminate")
    #expect(!text.contains("Malformed"), "\(text.suffix(4000))")
    for words in ["Read Request", "Read Response", "Send", "Write"] {
      #expect(text.contains("OpCode: \(words)"), "no \(words)")
    }
  }
}
