import FabricCompletion
import FabricPlatform

/// Beats and time-outs of the channels of one service: one source for all of them.
final class ChannelTimer: TimedSource, @unchecked Sendable {
  private var channels: [ObjectIdentifier: Channel] = [:]
  private(set) var nextDeadline: MonotonicTime?

  func add(_ channel: Channel) {
    channels[ObjectIdentifier(channel)] = channel
    channel.timer = self
  }

  func remove(_ channel: Channel) { channels[ObjectIdentifier(channel)] = nil }

  /// The channel's deadline has changed. One that moved away is found out at the next look.
  func reschedule(_ channel: Channel) {
    guard let deadline = channel.deadline else { return }
    if let nextDeadline, nextDeadline <= deadline { return }
    nextDeadline = deadline
    channel.service.deadlinesHaveChanged()
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

  func progress(at now: MonotonicTime) -> Int {
    forEach { $0.tick(at: now) }
    nextDeadline = nil
    forEach { reschedule($0) }
    return 0
  }
}
