public import FabricPlatform

/// Why a volume could not become a device of this machine, or cannot stop to be one.
public enum HostDeviceError: Error, Sendable, CustomStringConvertible {
  /// The machine lacks something: what was expected, what came, what to do.
  case missing(String)
  /// A call of the system failed.
  case system(Errno, doing: String)
  /// Somebody uses the device; who, in words.
  case inUse(device: String, by: [String])

  public var description: String {
    switch self {
    case .missing(let words): words
    case .system(let error, let doing): "\(doing): \(error)"
    case .inUse(let device, let users):
      "expected \(device) to be unused, but it is "
        + (users.isEmpty ? "held open" : users.joined(separator: ", and "))
        + "; unmount it and end what uses it, then try again"
    }
  }
}

extension HostDeviceError {
  /// Runs calls of the system and says what they were for when one fails.
  static func doing<Result: ~Copyable>(
    _ words: @autoclosure () -> String, _ body: () throws(Errno) -> Result
  ) throws(HostDeviceError) -> Result {
    do throws(Errno) {
      return try body()
    } catch { throw .system(error, doing: words()) }
  }
}
