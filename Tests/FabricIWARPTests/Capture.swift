import Foundation

/// A capture in the classic format, Ethernet and IPv4: what each TCP segment carried, in order.
struct Capture {
  struct Payload {
    let fromPort: UInt16
    let bytes: [UInt8]
  }

  let payloads: [Payload]

  /// `Specs/Vectors/siw-rping.pcap`: two Linux soft-iWARP ends run rping, checksums off.
  static func rping() throws -> Capture {
    let path = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../Specs/Vectors/siw-rping.pcap")
    return Capture([UInt8](try Data(contentsOf: path)))
  }

  init(_ file: [UInt8]) {
    func little32(_ at: Int) -> Int {
      (0..<4).reduce(0) { $0 | Int(file[at + $1]) << (8 * $1) }
    }
    var payloads: [Payload] = []
    var next = 24
    while next < file.count {
      let count = little32(next + 8)
      let ip = next + 16 + 14
      let tcp = ip + Int(file[ip] & 15) * 4
      let end = ip + Int(file[ip + 2]) << 8 + Int(file[ip + 3])
      let start = tcp + Int(file[tcp + 12] >> 4) * 4
      if start < end {
        payloads.append(
          Payload(
            fromPort: UInt16(file[tcp]) << 8 | UInt16(file[tcp + 1]),
            bytes: Array(file[start..<end])))
      }
      next += 16 + count
    }
    self.payloads = payloads
  }
}
