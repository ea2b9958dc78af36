import FabricFrontEnds
import FabricNBDProtocol
import FabricStorage
import FabricWire
import Testing

@testable import FabricNBD

@Suite("NBD: requests and replies")
struct RequestTests {
  private let rules = NBDRules(
    byteCount: 64 << 20, blockMask: 4095, isReadOnly: false, hasStructuredReplies: true,
    hasAllocationContext: true)

  private func refusal(
    _ type: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt32 = 4096,
    _ rules: NBDRules? = nil
  ) -> UInt32? {
    let request = Wire.view(Wire.request(type, flags, 7, offset, length)) { NBDRequest($0) }
    return request?.refusal(under: rules ?? self.rules)?.rawValue
  }

  @Test("NB-21: a request's bytes, and no other magic number")
  func golden() throws {
    let bytes: [UInt8] = [
      0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0x10, 0,
      0, 0, 0x20, 0,
    ]
    let request = try #require(Wire.view(bytes) { NBDRequest($0) })
    #expect(request.command == .write)
    #expect(request.flags == .forceUnitAccess)
    #expect(request.cookie == 0x0102_0304_0506_0708)
    #expect(request.offset == 4096)
    #expect(request.length == 8192)
    #expect(request.payloadByteCount == 8192)
    for index in 0..<4 {
      var wrong = bytes
      wrong[index] ^= 1
      #expect(Wire.view(wrong) { NBDRequest($0) } == nil)
    }
  }

  @Test("NB-22: each command has its flags and no others")
  func flags() {
    // READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS
    let allowed: [UInt16] = [0b101, 1, 1, 1, 1, 1, 0b10011, 0b1001]
    for type in 0..<UInt16(8) {
      let length: UInt32 = type == 2 || type == 3 ? 0 : 4096
      for bit in 0..<16 {
        let flag = UInt16(1) << bit
        let isAllowed = allowed[Int(type)] & flag != 0
        #expect(
          refusal(type, flags: flag, length: length) == (isAllowed ? nil : 22),
          "command \(type), flag \(bit)")
      }
    }
    for type: UInt16 in [8, 9, 255, .max] { #expect(refusal(type) == 22) }
    var plain = rules
    plain.hasStructuredReplies = false
    #expect(refusal(0, flags: 4, plain) == 22)
  }

  @Test("NB-24: lengths, bounds, blocks and rights are checked")
  func bounds() {
    let size: UInt64 = 64 << 20
    for type: UInt16 in [0, 1, 4, 5, 6, 7] {
      let beyond: UInt32 = type == 1 || type == 6 ? 28 : 22
      #expect(refusal(type) == nil)
      #expect(refusal(type, length: 0) == 22)
      #expect(refusal(type, offset: size - 4096) == nil)
      #expect(refusal(type, offset: size) == beyond)
      #expect(refusal(type, offset: size - 4096, length: 8192) == beyond)
      #expect(refusal(type, offset: .max - 4095) == beyond)
      #expect(refusal(type, offset: .max, length: .max) == beyond)
      #expect(refusal(type, offset: 512) == 22)
      #expect(refusal(type, length: 4097) == 22)
      let isRead = type == 0 || type == 1
      #expect(refusal(type, length: 32 << 20) == nil)
      #expect(refusal(type, length: 32 << 20 + 4096) == (isRead ? 22 : nil))
    }
    #expect(refusal(3, length: 0) == nil)
    #expect(refusal(3, length: 4096) == 22)
    #expect(refusal(3, offset: 4096, length: 0) == 22)
    var reading = rules
    reading.isReadOnly = true
    for type in 0..<UInt16(8) {
      let expected: UInt32? = [1, 4, 6].contains(type) ? 1 : nil
      #expect(refusal(type, length: type == 2 || type == 3 ? 0 : 4096, reading) == expected)
    }
  }

  @Test("NB-33: BLOCK_STATUS without the context is EINVAL")
  func noContext() {
    var without = rules
    without.hasAllocationContext = false
    #expect(refusal(7, without) == 22)
    #expect(refusal(7) == nil)
  }

  @Test("NB-29: what each status is told as")
  func statuses() {
    let codes: [BlockStatus: UInt32?] = [
      .success: nil, .invalidField: 22, .lbaOutOfRange: 22, .readOnly: 1, .mediaReadError: 5,
      .mediaWriteError: 5, .compareFailure: 22, .capacityExceeded: 28, .flushFailed: 5,
      .aborted: 108, .unsupported: 95, .internalError: 5,
    ]
    for status in BlockStatus.allCases {
      #expect(NBD.ErrorCode(status)?.rawValue == codes[status], "\(status)")
    }
  }

  private func bytes(_ count: Int, _ body: (WireBuffer) -> Void) -> [UInt8] {
    var all = [UInt8](repeating: 0xee, count: count)
    unsafe all.withUnsafeMutableBytes { body(unsafe WireBuffer($0)) }
    return all
  }

  private let cookie: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
  private let cookieNumber: UInt64 = 0x0102_0304_0506_0708

  @Test("NB-30: the bytes of a simple reply")
  func simple() {
    let reply = bytes(16) { NBDReply.simple(cookie: cookieNumber, error: 28, into: $0) }
    #expect(reply == [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28] + cookie)
  }

  @Test("NB-31: the bytes of data and of a hole")
  func chunks() {
    let data = bytes(28) {
      NBDReply.data(
        cookie: cookieNumber, offset: 0x1_0000, byteCount: 4096, isLast: true, into: $0)
    }
    #expect(
      data == [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1] + cookie + [0, 0, 0x10, 8]
        + [0, 0, 0, 0, 0, 1, 0, 0])
    let hole = bytes(32) {
      NBDReply.hole(cookie: cookieNumber, offset: 0x1_0000, byteCount: 0x2_0000, into: $0)
    }
    #expect(
      hole == [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 2] + cookie + [0, 0, 0, 12]
        + [0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0])
  }

  @Test("NB-32: the bytes of errors")
  func errors() {
    let error = bytes(26) { NBDReply.error(cookie: cookieNumber, code: 22, into: $0) }
    #expect(
      error == [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1] + cookie + [0, 0, 0, 6]
        + [0, 0, 0, 22, 0, 0])
    let there = bytes(34) {
      NBDReply.error(cookie: cookieNumber, code: 5, offset: 0x3000, into: $0)
    }
    #expect(
      there == [0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 2] + cookie + [0, 0, 0, 14]
        + [0, 0, 0, 5, 0, 0] + [0, 0, 0, 0, 0, 0, 0x30, 0])
  }

  @Test("NB-33: the bytes of extents")
  func extents() {
    let status = bytes(NBDReply.statusByteCount(2)) {
      NBDReply.status(cookie: cookieNumber, extentCount: 2, into: $0)
      NBDReply.extent(0, byteCount: 4096, flags: 0, into: $0)
      NBDReply.extent(1, byteCount: 0x1_0000, flags: 3, into: $0)
    }
    #expect(
      status == [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5] + cookie + [0, 0, 0, 20] + [0, 0, 0, 1]
        + [0, 0, 0x10, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3])
  }

  @Test("NB-40: addresses as clients write them")
  func uris() {
    #expect(
      NBDServer.uri(of: .local(path: "/run/a b.sock")) == "nbd+unix:///?socket=/run/a%20b.sock")
  }
}
