import FabricFrontEnds
import FabricStorage
import FabricWire

/// A front end of the smallest kind: each block that comes over a stream is written to the volume's first
/// block, and goes back as that block then reads. Everything that makes it one is here.
///
/// Threads: the front end's.
final class BlockEcho: StreamHandler, PortUser {
  private let stream: ServedStream
  private let frontEnd: FrontEnd
  private let port: ServedPort?
  private var client: PortClient?
  private let holding = DataBuffers.Holding()
  private let block: DataBuffers.Buffer?

  init(_ stream: ServedStream, _ frontEnd: FrontEnd, _ volume: Volume) {
    (self.stream, self.frontEnd) = (stream, frontEnd)
    port = try? frontEnd.port(on: volume, access: .readWrite)
    block = frontEnd.buffers.take(Int(volume.blockByteCount), for: holding)
    client = port?.attach(self)
  }

  func stream(_ stream: ServedStream, received bytes: WireView) -> Int {
    guard let port, let block else { return bytes.byteCount }
    stream.isKnown = true
    stream.place(byteCount: Int(port.blockByteCount), at: block.address)
    return 0
  }

  func streamDidPlace(_ stream: ServedStream) {
    // What comes behind the block waits until this one has gone back.
    stream.pauseInput()
    submit(.write)
  }

  private func submit(_ operation: BlockOperation) {
    guard let port, let client, let block else { return }
    let request = BlockRequest(
      operation, blockCount: 1, address: block.address, byteCount: UInt32(port.blockByteCount),
      tag: UInt64(operation.rawValue))
    if !port.submit(request, for: client) { stream.reset() }
  }

  func port(_ port: ServedPort, ended completions: Span<BlockCompletion>) {
    guard completions[0].status == .success, let block else { return stream.reset() }
    if completions[0].tag == UInt64(BlockOperation.write.rawValue) { return submit(.read) }
    stream.data(address: block.address, byteCount: Int(port.blockByteCount), token: 0)
  }

  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>) { stream.resumeInput() }

  func stream(_ stream: ServedStream, closed reason: StreamEnd) {
    if let port, let client { port.quiesce(client) }
  }

  func portDidQuiesce(_ port: ServedPort) {
    if let block { frontEnd.buffers.give(block, of: holding) }
  }
}
