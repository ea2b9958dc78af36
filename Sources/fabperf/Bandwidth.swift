import ArgumentParser
import FabricMessaging
import FabricPlatform
import FabricVerbs

struct Bandwidth: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Bytes a second of transfers into the peer's buffers, and of a plain copy.",
    discussion: "JSON: bytesPerSecond, memcpyBytesPerSecond, ratio.")

  @OptionGroup var common: CommonOptions
  @Option(help: "Bytes of a transfer, 1 to 131072.")
  var size = 65536

  func validate() throws {
    guard 1...131072 ~= size else {
      throw ValidationError("expected a size of 1 to 131072 bytes, got \(size)")
    }
  }

  func run() throws {
    let peer = try StartedMeasurement(
      options: ChannelOptions(), common: common
    ).connected()
    let source = try peer.endpoint.protectionDomain.allocate(byteCount: size, access: [])
    unsafe source.bytes.initializeMemory(as: UInt8.self, repeating: 0x5a)
    let stream = Stream(peer)
    try withPayload(8) { payload in
      func send() -> SendRefusal? {
        peer.channel.transfer(
          kind: Kind.stream, tag: 0, payload: payload, data: source.element)
      }
      _ = try stream.pour(for: common.seconds / 10, send)
      let (count, seconds) = try stream.pour(for: common.seconds, send)
      peer.finish()
      let plain = try copyBytesPerSecond(source)
      let bytes = Double(count * size) / seconds
      var report = Report()
      report.add("bytesPerSecond", bytes, digits: 0)
      report.add("memcpyBytesPerSecond", plain, digits: 0)
      report.add("ratio", bytes / plain)
      report.add("size", size)
      try report.print(json: common.json)
    }
  }

  /// The floor: the same copies, out of one source into buffers laid out as the peer's, by this
  /// process alone.
  private func copyBytesPerSecond(_ source: MemoryRegion) throws -> Double {
    let options = ChannelOptions()
    let stride = options.bufferByteCount + 4096
    let target = try Mapping.anonymous(byteCount: options.bufferCount * stride)
    unsafe target.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    let start = MonotonicTime.now
    let end = start + .seconds(common.seconds)
    var count = 0
    while MonotonicTime.now < end {
      for index in 0..<options.bufferCount {
        unsafe (target.bytes.baseAddress! + index * stride).copyMemory(
          from: source.bytes.baseAddress!, byteCount: size)
        count += 1
      }
    }
    let seconds = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    return Double(count * size) / seconds
  }
}
