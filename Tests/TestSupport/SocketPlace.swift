import Foundation

/// A directory for sockets that goes with the object, and with it what killed processes, and
/// listeners that were only dropped, have left there.
public final class SocketPlace: Sendable {
  private let path = "/tmp/fabric-sockets-\(getpid())-\(UInt32.random(in: 0 ... .max))"

  public init() {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    } catch { fatalError("\(error)") }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A path that nothing lies at yet.
  public func freshPath() -> String { "\(path)/\(UInt32.random(in: 0 ... .max))" }
}
