import FabricIOProtocol
import FabricMessaging
import FabricStorage
import FabricWire

/// A channel that asks which volumes there are. Confined to its shard's thread. (IO-40)
final class DiscoveryConnection: ChannelHandler {
  /// What the host sees.
  private let volumes: () -> [(volume: Volume, access: VolumeAccess)]
  private let didClose: (DiscoveryConnection) -> Void
  /// Answers that wait for the channel; a host that asks more before it has an answer is cut off.
  private var waiting: [(tag: UInt32, payload: [UInt8])] = []

  init(
    volumes: @escaping () -> [(volume: Volume, access: VolumeAccess)],
    didClose: @escaping (DiscoveryConnection) -> Void
  ) {
    self.volumes = volumes
    self.didClose = didClose
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      guard message.kind == MessageKind.volumeQuery.rawValue, message.buffer == nil,
        waiting.count < 16, let query = try? VolumeQuery(decoding: message.payload)
      else { return channel.close() }
      answer(query, tag: message.tag)
    }
    channelCanSend(channel)
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {}

  func channelCanSend(_ channel: Channel) {
    while let (tag, payload) = waiting.first {
      let refusal = unsafe payload.withUnsafeBytes { bytes in
        channel.send(
          kind: MessageKind.volumeEntry.rawValue, tag: tag, payload: unsafe WireView(bytes))
      }
      if refusal == .noCredit || refusal == .noBuffer { return }
      waiting.removeFirst()
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { didClose(self) }

  private func answer(_ query: VolumeQuery, tag: UInt32) {
    let previous = Array(query.previousName.utf8)
    let next = volumes().filter {
      $0.volume.name.utf8.count <= IOProtocol.maximumNameByteCount
        && previous.lexicographicallyPrecedes(Array($0.volume.name.utf8))
    }.min { Array($0.volume.name.utf8).lexicographicallyPrecedes(Array($1.volume.name.utf8)) }
    let entry = VolumeEntry(
      next.map { volume, access in
        VolumeEntry.Volume(
          name: volume.name, identifier: volume.identifier,
          blockByteCount: volume.blockByteCount, blockCount: volume.blockCount, access: access)
      })
    if let payload = try? entry.encoded() { waiting.append((tag, payload)) }
  }
}
