import FabricAdapterParts
import FabricPlatform
public import FabricVerbs
import Synchronization

/// Choices of a shared-memory adapter.
public struct SharedMemoryOptions: Sendable {
  /// Whose processes may be at the other end.
  public enum Peers: Sendable {
    /// This process's own user, and root.
    case sameUser
    /// Anybody whom the listening socket's directory lets in.
    case anyUser
  }

  /// Who copies the bytes of an RDMA write.
  public enum Mode: Sendable {
    /// The target, out of memory that it can only read: nobody writes another's memory.
    case isolated
    /// The initiator, into memory that the target registered for remote write and shared with its
    /// peers; where both sides' adapters are direct. Trusts the peers not to write elsewhere in it.
    case direct
  }

  public var peers: Peers
  public var mode: Mode
  /// Told of what an operator should know, one line each, on the thread that polls a listener's
  /// events: that there are no descriptors left for who connects.
  public var log: @Sendable (String) -> Void = { _ in }

  public init(peers: Peers = .sameUser, mode: Mode = .isolated) {
    self.peers = peers
    self.mode = mode
  }

  func allows(_ peer: SequencedSocket.PeerCredentials) -> Bool {
    switch peers {
    case .anyUser: true
    case .sameUser: peer.userID == CallingUser.id || peer.userID == 0
    }
  }
}

/// A fabric between the processes of one machine, over memory that both have mapped.
///
/// Isolated: each process maps its peer's memory read-only and writes nothing but its own, so a
/// wild store harms only the process that made it. Direct: see `SharedMemoryOptions.Mode`.
/// Addresses are the paths of Unix sockets.
public final class SharedMemoryAdapter: Adapter {
  public let fabric = "shm"
  private let options: SharedMemoryOptions
  private static let nextNumber = Atomic<UInt32>(1)

  /// - Throws: where the kernel lacks global expedited membarriers (before 4.16).
  public init(_ options: SharedMemoryOptions = SharedMemoryOptions()) throws(ResourceError) {
    self.options = options
    do {
      try MemoryBarrier.registerGlobal()
    } catch {
      throw .system(error, doing: "registering for global memory barriers")
    }
  }

  public var capabilities: AdapterCapabilities {
    AdapterCapabilities(
      hasImmediateWrite: true, hasImmediateSend: true, hasRemoteRead: true,
      hasSharedReceiveQueue: true, hasForeignMemory: false, hasAcknowledgements: true,
      peersAreStrangers: false,
      maximumInlineByteCount: Record.maximumInlineByteCount,
      maximumPrivateDataByteCount: ControlMessage.maximumPrivateDataByteCount,
      maximumMessageByteCount: Record.maximumByteCount)
  }

  public func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    do {
      return try SharedMemoryProtectionDomain(options.mode)
    } catch {
      throw .system(error, doing: "making a protection domain's table of keys")
    }
  }

  public func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue {
    try QueueCapacity.check(completions: capacity)
    do {
      return try SharedMemoryCompletionQueue(capacity: capacity)
    } catch {
      throw .system(error, doing: "making a completion queue")
    }
  }

  public func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    try QueueCapacity.check(requests: capacity, "shared receive queue")
    guard let domain = protectionDomain as? SharedMemoryProtectionDomain else {
      throw .foreignParts
    }
    return ReceiveQueue(localKeys: domain.localKeys, capacity: capacity)
  }

  public func makeQueuePair(
    _ attributes: QueuePairAttributes
  ) throws(ResourceError) -> any QueuePair {
    try attributes.checkCapacities()
    guard let domain = attributes.protectionDomain as? SharedMemoryProtectionDomain,
      let sends = attributes.sendCompletionQueue as? SharedMemoryCompletionQueue,
      let receives = attributes.receiveCompletionQueue as? SharedMemoryCompletionQueue
    else { throw .foreignParts }
    let queue = try attributes.receiveQueue(localKeys: domain.localKeys)
    do {
      return try SharedMemoryQueuePair(
        number: Self.nextNumber.add(1, ordering: .relaxed).oldValue, domain: domain,
        sendCompletionQueue: sends, receiveCompletionQueue: receives, receiveQueue: queue,
        usesSharedReceiveQueue: attributes.sharedReceiveQueue != nil,
        sendCapacity: attributes.sendCapacity)
    } catch {
      throw .system(error, doing: "making a queue pair's shared memory")
    }
  }

  public func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    do {
      return try EventChannel()
    } catch {
      throw .system(error, doing: "making an event channel")
    }
  }

  public func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    guard address.fabric == fabric, let events = events as? EventChannel else {
      throw .invalidAddress("expected an address shm:PATH, got \(address)")
    }
    return try SharedMemoryListener(at: address, options: options, events: events)
  }

  public func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard address.fabric == fabric, let events = events as? EventChannel else {
      throw .invalidAddress("expected an address shm:PATH, got \(address)")
    }
    guard let queuePair = queuePair as? SharedMemoryQueuePair, queuePair.state == .initialized
    else { throw .invalidState }
    guard privateData.count <= capabilities.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    let socket = try Self.connect(to: address.endpoint)
    let peer = try? socket.peerCredentials()
    guard let peer, options.allows(peer) else {
      throw .unreachable(
        "expected a listener of user \(CallingUser.id) at \(address.endpoint), "
          + "found one of user \(peer.map { String($0.userID) } ?? "unknown"): run both as one user"
      )
    }
    let connection = queuePair.connection
    do {
      try connection.open(socket, events: events, answerDeadline: .now + timeout)
    } catch {
      throw .system(error, doing: "watching a socket")
    }
    connection.send(
      .hello(connection.opening(privateData: privateData, of: queuePair)),
      descriptor: queuePair.ownFile.descriptor.rawValue)
  }

  private static func connect(to path: String) throws(ConnectError) -> SequencedSocket {
    do {
      return try SequencedSocket.connect(to: path)
    } catch .noSuchFileOrDirectory {
      throw .unreachable(
        "expected a listener's socket at \(path), found nothing: start the process that listens")
    } catch .notDirectory {
      throw .unreachable(
        "expected a listener's socket at \(path), but a part of that is no directory: check the path"
      )
    } catch .permissionDenied {
      throw .unreachable(
        "expected to connect to \(path) as user \(CallingUser.id), got \"Permission denied\": "
          + "run both as one user")
    } catch .connectionRefused where !FileKind.isSocket(path) {
      throw .protocolMismatch(
        "expected a listener's socket at \(path), found a file that is no socket: check the path")
    } catch .connectionRefused {
      throw .unreachable(
        "expected a listener at \(path), but nobody answers there: start the process that listens")
    } catch .protocolWrongTypeForSocket {
      throw .protocolMismatch(
        "expected a listener's socket at \(path), found a socket of another kind: check the path")
    } catch .fileNameTooLong {
      throw .invalidAddress(
        "expected a socket path of 1 to \(SequencedSocket.maximumPathByteCount) bytes, "
          + "got \(path.utf8.count)")
    } catch .wouldBlock {
      throw .unreachable("the listener at \(path) has too many connections waiting; try again")
    } catch {
      throw .system(error, doing: "connecting to \(path)")
    }
  }
}
