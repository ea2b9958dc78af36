import FabricCompletion
import FabricFrontEnds
import FabricPlatform
import FabricStorage
import FabricWire
import Foundation
import Synchronization

/// A front end with a protocol for tests: a message is 4 bytes of length and as many bytes of payload,
/// which comes back behind the same 4 bytes. A length of 0 ends the stream in order behind all answers.
final class EchoFrontEnd {
  let service: CompletionService
  let frontEnd: StreamFrontEnd
  let layer = CommonLayer()
  let ends = Ends()

  final class Ends: Sendable {
    let reasons = Mutex<[StreamEnd]>([])
  }

  init(
    _ addresses: [StreamAddress], options: FrontEndOptions = .init(), isShy: Bool = false
  ) throws {
    var serviceOptions = CompletionService.Options()
    serviceOptions.threadCount = 1
    service = try CompletionService(serviceOptions)
    let ends = ends
    frontEnd = try StreamFrontEnd(
      name: "echo", layer: layer, service: service, addresses: addresses, options: options
    ) { stream, frontEnd in
      if !isShy { stream.isKnown = true }
      return EchoHandler(stream, frontEnd, ends)
    }
  }

  deinit {
    frontEnd.stop()
    service.stop()
  }
}

final class EchoHandler: StreamHandler, FrontEndWaiter {
  private let stream: ServedStream
  private unowned let frontEnd: FrontEnd
  private let ends: EchoFrontEnd.Ends
  private let holding = DataBuffers.Holding()
  private var buffers: [DataBuffers.Buffer] = []
  private var byteCount = 0
  private var isWaiting = false

  init(_ stream: ServedStream, _ frontEnd: FrontEnd, _ ends: EchoFrontEnd.Ends) {
    self.stream = stream
    self.frontEnd = frontEnd
    self.ends = ends
  }

  func stream(_ stream: ServedStream, received bytes: WireView) -> Int {
    var start = 0
    while bytes.byteCount - start >= 4, !stream.isResting {
      byteCount = Int(bytes.uint32(at: start))
      if byteCount == 0 {
        stream.close()
        return 0
      }
      guard let buffer = frontEnd.buffers.take(byteCount, for: holding) else {
        if !isWaiting {
          isWaiting = true
          frontEnd.wait(self)
        }
        stream.pauseInput()
        return start
      }
      start += 4
      buffers.append(buffer)
      stream.place(byteCount: byteCount, at: buffer.address)
      return start
    }
    stream.neededByteCount = 4
    return start
  }

  func streamDidPlace(_ stream: ServedStream) {
    stream.header(byteCount: 4).set(UInt32(byteCount), at: 0)
    stream.data(
      address: buffers.last!.address, byteCount: byteCount, token: buffers.last!.address)
  }

  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>) {
    for index in tokens.indices {
      let place = buffers.firstIndex { $0.address == tokens[index] }!
      frontEnd.buffers.give(buffers.remove(at: place), of: holding)
    }
    frontEnd.somethingCameFree()
  }

  func retry() -> Bool {
    isWaiting = false
    stream.resumeInput()
    return true
  }

  func stream(_ stream: ServedStream, closed reason: StreamEnd) {
    for buffer in buffers { frontEnd.buffers.give(buffer, of: holding) }
    if isWaiting { frontEnd.stopWaiting(self) }
    ends.reasons.withLock { $0.append(reason) }
    frontEnd.somethingCameFree()
  }
}
