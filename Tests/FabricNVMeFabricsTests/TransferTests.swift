import FabricFrontEnds
import FabricNVMe
import FabricNVMeFabrics
import FabricPlatform
import FabricStorage
import FabricWire
import Foundation
import TestSupport
import Testing

@Suite("NVMe/TCP: transfers")
struct TransferTests {
  @Test(
    "data goes in the capsule, on request and back, with digests and without (NT-3, NT-4, NT-5, NT-6)",
    arguments: [(false, false), (true, false), (false, true), (true, true)])
  func everyWay(_ digests: (header: Bool, data: Bool)) throws {
    let unit = try TCPUnit()
    let pair = try HostPair(unit, headerDigest: digests.header, dataDigest: digests.data)
    let host = pair.io
    let small = pattern(8192)
    #expect(
      try host.run(
        host.io(Opcode.IO.write, block: 4, count: 2, data: .inCapsule(byteCount: 8192)),
        data: small
      ).completion.status == .success)
    // On request, in three PDUs.
    let large = pattern(256 << 10, seed: 5)
    try host.client.send(
      host.capsule(
        host.io(
          Opcode.IO.write, block: 100, count: 64, identifier: 9,
          data: .transport(byteCount: UInt32(large.count)))))
    let request = try host.receive()
    #expect(request.kind == .readyToTransfer)
    #expect(request.transfer.command == 9 && request.transfer.offset == 0)
    #expect(request.transfer.byteCount == UInt32(large.count))
    for (start, end) in [(0, 4096), (4096, 200_000), (200_000, large.count)] {
      try host.client.sendPieces(
        host.hostData(
          PDU.Transfer(
            command: 9, tag: request.transfer.tag, offset: UInt32(start),
            byteCount: UInt32(end - start)), Array(large[start..<end]), isLast: end == large.count))
    }
    let written = try host.receive().completion
    #expect(written.identifier == 9 && written.status == .success)
    for (block, expected) in [(4, small), (100, large)] as [(UInt64, [UInt8])] {
      let data = try host.run(
        host.io(
          Opcode.IO.read, block: block, count: UInt32(expected.count / 4096), identifier: 10,
          data: .transport(byteCount: UInt32(expected.count))))
      #expect(data.kind == .controllerData && data.common.flags.contains(.last))
      #expect(data.transfer.command == 10 && data.data == expected)
      #expect(try host.receive().completion.status == .success)
    }
    #expect(
      try host.run(
        host.io(Opcode.IO.compare, block: 4, count: 2, data: .inCapsule(byteCount: 8192)),
        data: small
      ).completion.status == .success)
    #expect(
      try host.run(
        host.io(Opcode.IO.compare, block: 100, count: 2, data: .inCapsule(byteCount: 8192)),
        data: small
      ).completion.status == .compareFailure)
  }

  @Test("a host that does not count the queue's head gets no response behind a read's data (NT-6)")
  func successInData() throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit, countsHead: false).io
    let read = try host.run(host.io(Opcode.IO.read, data: .transport(byteCount: 4096)))
    #expect(read.kind == .controllerData && read.common.flags == [.last, .success])
    let flush = try host.run(host.io(Opcode.IO.flush, identifier: 2)).completion
    #expect(flush.identifier == 2 && flush.submissionHead == 0xFFFF)
    // One that counts is told how far it was read.
    let counting = try HostPair(unit).io
    let first = try counting.run(counting.io(Opcode.IO.flush)).completion
    #expect(first.submissionHead == 2)
    #expect(try counting.run(counting.io(Opcode.IO.flush)).completion.submissionHead == 3)
  }

  @Test("data begins where the host wants it to (NT-7)", arguments: [0, 1, 15, 31] as [UInt8])
  func alignment(_ alignment: UInt8) throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit, headerDigest: true, alignment: alignment).io
    let read = try host.run(host.io(Opcode.IO.read, data: .transport(byteCount: 4096)))
    let unitByteCount = (Int(alignment) + 1) * 4
    #expect(Int(read.common.dataOffset).isMultiple(of: unitByteCount) && read.data.count == 4096)
    #expect(Int(read.common.dataOffset) >= 28)
  }

  @Test("many commands at once end each on its own, files and memory alike (NT-8)")
  func manyAtOnce() throws {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "nvme-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = try FileStore.open(
      path: folder.appending(path: "disk.img").path,
      options: FileStore.Options(byteCountIfMissing: 16 << 20))
    let unit = try TCPUnit([("disk", file), ("memory", try MemoryStore(byteCount: 16 << 20))])
    for namespace in [1, 2] as [UInt32] {
      let host = try HostPair(unit).io
      for round in 0..<4 {
        var bytes: [UInt8] = []
        for number in 0..<60 {
          bytes += host.capsule(
            host.io(
              Opcode.IO.write, block: UInt64(round * 60 + number), identifier: UInt16(number),
              namespace: namespace, data: .inCapsule(byteCount: 4096)),
            data: pattern(4096, seed: round * 60 + number))
        }
        try host.client.sendPieces(bytes)
        var ended: Set<UInt16> = []
        for _ in 0..<60 {
          let end = try host.receive().completion
          #expect(end.status == .success && ended.insert(end.identifier).inserted)
        }
      }
      var bytes: [UInt8] = []
      for number in 0..<60 {
        bytes += host.capsule(
          host.io(
            Opcode.IO.read, block: UInt64(number * 4), identifier: UInt16(number),
            namespace: namespace, data: .transport(byteCount: 4096)))
      }
      try host.client.send(bytes)
      for _ in 0..<60 {
        let data = try host.receive()
        #expect(data.data == pattern(4096, seed: Int(data.transfer.command) * 4))
        #expect(try host.receive().completion.identifier == data.transfer.command)
      }
    }
  }

  @Test("more data under way than there are buffers waits, on all connections, and all ends (NT-9)")
  func fewBuffers() throws {
    let unit = try TCPUnit {
      $0.bufferCount = 4
      $0.largeBufferByteLimit = 1 << 20
    }
    let hosts = try (0..<3).map { _ in try HostPair(unit).io }
    for host in hosts {
      var bytes: [UInt8] = []
      for number in 0..<16 {
        bytes += host.capsule(
          host.io(
            Opcode.IO.write, block: UInt64(number * 32), count: 32, identifier: UInt16(number),
            data: .transport(byteCount: 128 << 10)))
      }
      try host.client.send(bytes)
    }
    let data = pattern(128 << 10)
    for host in hosts {
      var ended = 0
      while ended < 16 {
        let pdu = try host.receive()
        guard pdu.kind == .readyToTransfer else {
          #expect(pdu.completion.status == .success)
          ended += 1
          continue
        }
        let asked = pdu.transfer
        try host.client.send(
          host.hostData(
            PDU.Transfer(
              command: asked.command, tag: asked.tag, offset: 0, byteCount: asked.byteCount),
            data, isLast: true))
      }
    }
  }

  @Test("a wrong digest of data fails its command and nothing else (NT-5)")
  func wrongDataDigest() throws {
    let unit = try TCPUnit()
    let host = try HostPair(unit, dataDigest: true).io
    var capsule = host.capsule(
      host.io(Opcode.IO.write, block: 1, data: .inCapsule(byteCount: 4096)), data: pattern(4096))
    capsule[capsule.count - 1] ^= 1
    try host.client.send(capsule)
    #expect(try host.receive().completion.status == .transientTransportError)
    let read = try host.run(host.io(Opcode.IO.read, block: 1, data: .transport(byteCount: 4096)))
    #expect(read.data.allSatisfy { $0 == 0 })
    #expect(try host.receive().completion.status == .success)
  }
}

@Suite("NVMe/TCP: many at once")
struct CrowdedTests {
  @Test("data that was asked for is taken though a capsule before it finds no buffer (NT-4, NT-9)")
  func capsuleBehindRequests() throws {
    let unit = try TCPUnit { $0.bufferCount = 4 }
    let host = try HostPair(unit).io
    let large = pattern(64 << 10)
    var bytes: [UInt8] = []
    for number in 0..<8 as Range<UInt16> {
      bytes += host.capsule(
        host.io(
          Opcode.IO.write, block: UInt64(number) * 16, count: 16, identifier: number,
          data: .transport(byteCount: UInt32(large.count))))
    }
    for number in 8..<12 as Range<UInt16> {
      bytes += host.capsule(
        host.io(
          Opcode.IO.write, block: 1000 + UInt64(number), identifier: number,
          data: .inCapsule(byteCount: 4096)), data: pattern(4096))
    }
    try host.client.send(bytes)
    var ended: Set<UInt16> = []
    while ended.count < 12 {
      let pdu = try host.receive()
      guard pdu.kind == .readyToTransfer else {
        #expect(pdu.completion.status == .success)
        ended.insert(pdu.completion.identifier)
        continue
      }
      let asked = pdu.transfer
      try host.client.send(
        host.hostData(
          PDU.Transfer(
            command: asked.command, tag: asked.tag, offset: 0, byteCount: asked.byteCount),
          large, isLast: true))
    }
  }

  @Test("a host that asks and does not read is not answered beyond a bound (NT-9)")
  func unreadAnswers() throws {
    let unit = try TCPUnit { $0.outputByteLimit = 1 << 20 }
    let admin = try HostPair(unit).admin
    var log = Command(opcode: Opcode.Admin.getLogPage)
    log.dword10 = 0x02 | 0xFFFF << 16
    log.data = .transport(byteCount: 256 << 10)
    // 16 MB of answers, of which the sockets take some.
    let all = (0..<60).flatMap { _ in admin.capsule(log) }
    try admin.client.send(all)
    for _ in 0..<60 {
      #expect(try admin.receive().data.count == 256 << 10)
      #expect(try admin.receive().completion.status == .success)
    }
  }

  @Test("event requests that a reset gives up make room for others (NV-10, NV-17)")
  func eventsAfterResets() throws {
    let unit = try TCPUnit()
    let admin = try TCPHost(unit)
    try admin.initialize()
    _ = try admin.becomeAdmin()
    var enable = Command(opcode: Opcode.fabrics, namespace: UInt32(Opcode.Fabrics.propertySet))
    enable.dword11 = 0x14
    for _ in 0..<40 {
      for identifier in 0..<4 as Range<UInt16> {
        try admin.client.send(
          admin.capsule(
            Command(opcode: Opcode.Admin.asynchronousEventRequest, identifier: identifier)))
      }
      for value in [0, 1] as [UInt32] {
        enable.dword12 = value
        #expect(try admin.run(enable).completion.status == .success)
      }
    }
  }
}
