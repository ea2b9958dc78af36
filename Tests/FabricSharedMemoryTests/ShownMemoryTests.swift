import FabricVerbs
import TestSupport
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: what a peer gets to see")
struct ShownMemoryTests {
  @Test("SM-6: a peer sees a region when a request to it uses the region, or when it may read it")
  func firstUse() throws {
    let pair = try ConnectedPair(.isolated, .isolated)
    let secret = try pair.client.domain.allocate(byteCount: 8192, access: .localWrite)
    let used = try pair.client.domain.allocate(byteCount: 8192, access: [])
    let readable = try pair.client.domain.allocate(byteCount: 8192, access: .remoteRead)
    let target = try pair.server.domain.allocate(
      byteCount: 8192, access: [.localWrite, .remoteWrite])
    try pair.pollEvents()
    #expect(try mappings(of: secret) == 1)
    #expect(try mappings(of: used) == 1)
    #expect(try mappings(of: readable) == 2)

    let key = try #require(target.remoteKey)
    for id in 1...2 as ClosedRange<UInt64> {
      let write = SendRequest(
        id: id, opcode: .write, elements: ScatterGatherList(used.element),
        remoteAddress: target.address, remoteKey: key)
      try pair.client.queuePair.postSend([write].span)
    }
    try pair.run { pair.client.completions.count == 2 }
    #expect(pair.client.completions.allSatisfy { $0.status == .success })
    #expect(try mappings(of: secret) == 1)
    #expect(try mappings(of: used) == 2)

    let usedFile = try file(of: used)
    pair.client.domain.deregister(used)
    try pair.pollEvents()
    #expect(try mappings(ofFile: usedFile) == 1, "the region object still holds the owner's")
    pair.close()
  }

  private func mappings(of region: MemoryRegion) throws -> Int {
    try mappings(ofFile: file(of: region))
  }

  /// Which file of memory a region lies in: device and number.
  private func file(of region: MemoryRegion) throws -> String {
    let start = String(region.address, radix: 16) + "-"
    let line = try #require(try mapLines().first { $0[0].hasPrefix(start) })
    return line[3] + " " + line[4]
  }

  private func mappings(ofFile file: String) throws -> Int {
    try mapLines().count { $0[3] + " " + $0[4] == file }
  }

  private func mapLines() throws -> [[String]] {
    try ProcessFiles.own.maps().map { $0.split(separator: " ").map(String.init) }
  }
}
