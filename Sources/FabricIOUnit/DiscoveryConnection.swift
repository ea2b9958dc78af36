import FabricIOProtocol
import FabricMessaging
import FabricStorage

/// A channel that asks which volumes there are. Confined to its shard's thread. (IO-40)
final class DiscoveryConnection: ChannelHandler {
  /// What the host sees.
  private let volumes: () -> [(volume: Volume, access: VolumeAccess)]
  /// Where the unit can be reached.
  private let addresses: () -> [AddressEntry.Address]
  private let didClose: (DiscoveryConnection) -> Void
  /// Answers that wait for the channel; a host that asks more before it has an answer is cut off.
  private var waiting: [(kind: MessageKind, tag: UInt32, payload: [UInt8])] = []

  init(
    volumes: @escaping () -> [(volume: Volume, access: VolumeAccess)],
    addresses: @escaping () -> [AddressEntry.Address],
    didClose: @escaping (DiscoveryConnection) -> Void
  ) {
    self.volumes = volumes
    self.addresses = addresses
    self.didClose = didClose
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      guard message.buffer == nil, waiting.count < 16, answer(message) else {
        return channel.close()
      }
    }
    channelCanSend(channel)
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {}

  func channelCanSend(_ channel: Channel) {
    while let (kind, tag, payload) = waiting.first {
      let refusal = channel.send(kind: kind.rawValue, tag: tag, bytes: payload)
      if refusal == .noCredit || refusal == .noBuffer { return }
      waiting.removeFirst()
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { didClose(self) }

  /// False when it is no question.
  private func answer(_ message: IncomingMessage) -> Bool {
    switch MessageKind(rawValue: message.kind) {
    case .volumeQuery:
      guard let query = try? VolumeQuery(decoding: message.payload) else { return false }
      answer(query, tag: message.tag)
    case .addressQuery:
      guard let query = try? AddressQuery(decoding: message.payload) else { return false }
      let all = addresses()
      let entry = AddressEntry(query.number < all.count ? all[Int(query.number)] : nil)
      waiting.append((.addressEntry, message.tag, entry.encoded()))
    default: return false
    }
    return true
  }

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
    if let payload = try? entry.encoded() { waiting.append((.volumeEntry, tag, payload)) }
  }
}
