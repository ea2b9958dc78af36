import FabricPlatform
import Synchronization

/// TCP ports that nobody listens at.
public enum FreePort {
  /// Below those that the kernel gives to whoever connects, and not twice in a process.
  private static let next = Atomic<Int>(.random(in: 12000..<30000))

  /// HOST:PORT with a port that was free a moment ago.
  public static func endpoint(host: String = "127.0.0.1") throws -> String {
    while true {
      let port = next.add(1, ordering: .relaxed).oldValue
      let endpoint = "\(host):\(12000 + port % 20000)"
      do {
        _ = try StreamSocket.listen(at: InternetAddress.resolve(endpoint)[0])
        return endpoint
      } catch let error as Errno where error == .addressInUse { continue }
    }
  }
}
