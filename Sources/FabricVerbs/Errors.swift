public import FabricPlatform

/// Why a post stopped: `acceptedCount` requests were taken, the next one was not.
public struct PostError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Reason: String, Sendable {
    /// The queue holds as many requests as it was made for; poll completions first.
    case queueFull = "the queue is full: poll completions, then post again"
    /// The completion queue could not hold one more completion; poll it first.
    case completionQueueFull = "the completion queue is full: poll it, then post again"
    /// An element's key, bounds or rights do not cover it.
    case invalidElement = "an element lies outside its memory region or lacks the right"
    /// More inline bytes than the adapter takes.
    case tooLong = "the message is longer than the adapter takes in this form"
    /// The adapter lacks the opcode; see its capabilities.
    case unsupported = "the adapter has no such operation"
    /// The queue pair is not connected.
    case notConnected = "the queue pair is not connected"
  }

  public let acceptedCount: Int
  public let reason: Reason

  public init(acceptedCount: Int, reason: Reason) {
    self.acceptedCount = acceptedCount
    self.reason = reason
  }

  public var description: String { "\(acceptedCount) requests posted, then: \(reason.rawValue)" }
}

/// Why memory could not be registered.
public enum RegistrationError: Error, Equatable, Sendable, CustomStringConvertible {
  /// No bytes, or a range that wraps.
  case emptyOrWrapping
  /// Outside the region, or rights that it does not have.
  case notWithinRegion
  /// Every key is in use.
  case tooManyKeys(limit: Int)
  /// This fabric reaches only memory that its protection domain allocated.
  case foreignMemoryUnsupported(String)
  /// The system refused for a reason that can be mended, such as a limit on locked memory: the words say
  /// what was asked, what is allowed and what to do.
  case refused(String)
  /// The system refused.
  case system(Errno, doing: String)

  public var description: String {
    switch self {
    case .emptyOrWrapping: "expected a range of at least one byte that does not wrap"
    case .notWithinRegion: "expected a part of the region with no more than its rights"
    case .tooManyKeys(let limit): "all \(limit) keys of the protection domain are in use"
    case .foreignMemoryUnsupported(let why):
      "memory that the protection domain did not allocate cannot be registered: \(why)"
    case .refused(let words): words
    case .system(let error, let doing): "\(doing) failed: \(error)"
    }
  }
}

/// Why an adapter's object could not be made.
public enum ResourceError: Error, Equatable, Sendable, CustomStringConvertible {
  case invalidCapacity(String)
  /// The parts belong to another adapter.
  case foreignParts
  /// The system refused for a reason that can be mended, such as a limit on locked memory or a file that is
  /// not for this user: the words say what to do.
  case refused(String)
  /// The system refused.
  case system(Errno, doing: String)

  public var description: String {
    switch self {
    case .invalidCapacity(let words): words
    case .foreignParts: "the protection domain or completion queue belongs to another adapter"
    case .refused(let words): words
    case .system(let error, let doing): "\(doing) failed: \(error)"
    }
  }
}

/// Why listening or connecting failed.
public enum ConnectError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The address cannot be used with this adapter.
  case invalidAddress(String)
  /// Somebody listens there already.
  case addressInUse(String)
  /// Nobody listens there.
  case unreachable(String)
  /// The listener hung up before it answered: it may have as many connections as it takes. Trying
  /// again may help.
  case turnedAway(String)
  /// The listener refused, with its private data.
  case rejected([UInt8])
  /// Somebody listens there who does not speak this fabric, or another version of it.
  case protocolMismatch(String)
  /// No answer in time.
  case timedOut(String)
  /// More private data than `capabilities.maximumPrivateDataByteCount`.
  case privateDataTooLong
  /// The queue pair was used before.
  case invalidState
  case system(Errno, doing: String)

  public var description: String {
    switch self {
    case .invalidAddress(let words), .addressInUse(let words), .unreachable(let words),
      .turnedAway(let words), .protocolMismatch(let words), .timedOut(let words):
      words
    case .rejected(let data):
      Self.words(refusing: data)
    case .privateDataTooLong: "the private data is longer than the adapter takes"
    case .invalidState: "the queue pair was connected before; make a new one"
    case .system(let error, let doing): "\(doing) failed: \(error)"
    }
  }

  /// Peers of other protocols refuse in bytes that are no text.
  private static func words(refusing data: [UInt8]) -> String {
    if data.isEmpty { return "the listener refused the connection without a reason" }
    let text = String(validating: data, as: UTF8.self)
    if let text, text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F }) {
      return "the listener refused the connection: \(text)"
    }
    let digits = data.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
    return "the listener refused the connection with \(data.count) bytes that are no words ("
      + "\(digits.joined(separator: " "))): is this the address of another protocol?"
  }
}
