import FabricCommandLine
import FabricPlatform
import Glibc
import Synchronization

/// A line on the terminal that says how far something is; nothing where there is no terminal.
///
/// Threads: any.
final class Progress: Sendable {
  private let title: String
  private let total: UInt64
  private let start = MonotonicTime.now
  private let isShown: Bool
  private let done = Atomic<UInt64>(0)
  private let lastShown = Atomic<UInt64>(0)

  init(_ title: String, total: UInt64, isQuiet: Bool) {
    self.title = title
    self.total = total
    isShown = !isQuiet && isatty(2) == 1
  }

  var byteCount: UInt64 { done.load(ordering: .relaxed) }
  /// Seconds since the start.
  var seconds: Double { Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9 }

  func add(_ byteCount: Int) {
    let now = done.wrappingAdd(UInt64(byteCount), ordering: .relaxed).newValue
    guard isShown else { return }
    let time = MonotonicTime.now.nanoseconds
    let last = lastShown.load(ordering: .relaxed)
    guard time &- last > 100_000_000,
      lastShown.compareExchange(expected: last, desired: time, ordering: .relaxed).exchanged
    else { return }
    show(now)
  }

  /// The last line; what follows goes below it.
  func finish() {
    guard isShown else { return }
    show(byteCount)
    try? Output.write("\n", to: 2)
  }

  private func show(_ now: UInt64) {
    let part = total == 0 ? 1 : min(1, Double(now) / Double(total))
    let width = 30
    let filled = Int(part * Double(width))
    let rate = Double(now) / max(seconds, 0.001)
    let left = rate > 0 ? Double(total - min(now, total)) / rate : 0
    try? Output.write(
      "\r\(title) [" + String(repeating: "#", count: filled)
        + String(repeating: ".", count: width - filled)
        + "] \(Int(part * 100)) %  \(describeBytes(rate))/s  \(rounded(left, 0)) s left\u{1B}[K",
      to: 2)
  }
}
