import FabricCompletion
import FabricIOProtocol
import FabricMessaging
import FabricPlatform

/// One connection's handler: events of a connection that was given up reach nobody.
final class PathConnection: ChannelHandler {
  /// Until the connection is given up.
  private(set) var queue: RemoteVolumeQueue?
  /// The same, for each message.
  private var reference: UncountedReference<RemoteVolumeQueue>?
  let path: VolumePath
  /// What the unit knows it by.
  let name: ConnectionName
  /// What slots know it by.
  let serial: UInt32
  /// Another connection that the unit was asked over this one to fence. (IO-50)
  var fenced: DeadConnection?

  init(_ queue: RemoteVolumeQueue, path: VolumePath, name: ConnectionName, serial: UInt32) {
    self.queue = queue
    self.path = path
    self.name = name
    self.serial = serial
    reference = UncountedReference(queue)
  }

  func giveUp() {
    queue = nil
    reference = nil
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    reference?.with { $0.received(messages, over: channel, of: self) }
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {}

  func prepare(_ step: PreparationStep) {
    if step == .user {
      reference?.prefetch(byteCount: RemoteVolumeQueue.hotByteCount)
    } else {
      reference?.with { $0.prefetchTables() }
    }
  }

  func channelCanSend(_ channel: Channel) {
    queue?.sendFences()
    queue?.sendControls()
    queue?.postUnsent()
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    queue?.lost(self, because: "\(reason)")
  }
}

/// A connection that was lost with requests under way. (IO-37)
final class DeadConnection {
  let name: ConnectionName
  let serial: UInt32
  let path: VolumePath
  /// Some of its requests were given up: what may still come of them must be over before anything else
  /// is sent.
  var hasAbandoned = false
  /// Whether the unit has been asked, over a connection that stands.
  var isAsked = false

  init(_ connection: PathConnection) {
    name = connection.name
    serial = connection.serial
    path = connection.path
  }
}
