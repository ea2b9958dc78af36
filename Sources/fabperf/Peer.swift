import ArgumentParser
import FabricCommandLine
import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricVerbs

/// The process at the other end of a measurement; started by the measuring one.
struct Peer: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The other end of a measurement.", shouldDisplay: false)

  @Argument var place: String
  @Option var fabric = "shm"
  @OptionGroup var tcp: ChecksumOptions
  @Option var parent: Int32
  @Option var floor: Int32 = -1
  @Option var ring: Int32 = -1
  @Option var socketFloor: UInt16 = 0
  @Option var size = 64
  @Option var spin: UInt32 = 50
  @Flag var direct = false

  func run() throws {
    ParentProcess.dieWithIt()
    let service = try CompletionService(spinning: spin)
    try Processor.bindCallingThread(toAvailable: 1)
    if floor >= 0 {
      try CacheLineFloor(process: parent, descriptor: floor).answer()
    }
    if ring >= 0 {
      try RingFloor(process: parent, descriptor: ring, size: size).answer()
    }
    if socketFloor > 0 { try SocketFloor.answer(port: socketFloor, size: size) }
    let endpoint = try ChannelEndpoint(
      adapter: try FabricChoice(isDirect: direct, checksums: tcp.checksums).adapter(
        for: fabric, at: FabricAddress(fabric: fabric, endpoint: place)),
      service: service)
    let handler = AnsweringHandler(
      data: try endpoint.protectionDomain.allocate(byteCount: max(1, size), access: []))
    var result: Result<Channel, ChannelOpenError>?
    var options = ChannelOptions()
    options.receiveCount = 1024
    options.sendCount = 1024
    options.messageByteCount = 512
    endpoint.connect(
      to: FabricAddress(fabric: fabric, endpoint: place), options: options, handler: handler
    ) { result = $0 }
    service.run(until: { result != nil }, deadline: .now + .seconds(10))
    _ = try result?.get()
    service.run(until: { handler.closed != nil })
  }
}
