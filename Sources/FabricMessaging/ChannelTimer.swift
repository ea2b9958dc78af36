import FabricCompletion
import FabricPlatform

/// Beats and time-outs of the channels of one service: one source for all of them.
final class ChannelTimer: ProgressSource, @unchecked Sendable {
  private var channels: [ObjectIdentifier: Channel] = [:]
  private var next: MonotonicTime?
  private var callCount = 0

  /// Calls between looks at the clock while the service is busy.
  private static let callsPerLook = 32

  func add(_ channel: Channel) {
    channels[ObjectIdentifier(channel)] = channel
    channel.timer = self
  }

  func remove(_ channel: Channel) { channels[ObjectIdentifier(channel)] = nil }

  /// The channel's deadline has changed. One that moved away is found out at the next look.
  func reschedule(_ channel: Channel) {
    guard let deadline = channel.deadline else { return }
    next = next.map { min($0, deadline) } ?? deadline
  }

  /// Visits every channel there is now without allocating, optimised or not; `visit` may remove
  /// channels.
  private func forEach(_ visit: (Channel) -> Void) {
    let values = channels.values
    var index = values.startIndex
    while index != values.endIndex {
      visit(values[index])
      values.formIndex(after: &index)
    }
  }

  var channelCount: Int { channels.count }
  var all: [Channel] { Array(channels.values) }

  func progress() -> Int {
    callCount &+= 1
    guard callCount % Self.callsPerLook == 0 else { return 0 }
    look()
    return 0
  }

  @inline(never)
  private func look() {
    guard let next else { return }
    let now = MonotonicTime.now
    guard next <= now else { return }
    forEach { $0.tick(at: now) }
    self.next = nil
    forEach { reschedule($0) }
  }

  var descriptor: CInt? { nil }
  var isTimer: Bool { true }
  /// Before a sleep the clock is read in any case.
  func arm() { look() }
  func disarm() { look() }
  var nextDeadline: MonotonicTime? { next }
}
