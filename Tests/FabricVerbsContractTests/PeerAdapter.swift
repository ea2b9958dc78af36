import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import Foundation
import Synchronization

@testable import ContractPeer

/// An adapter whose every call is carried out by another process, by an adapter there.
final class PeerAdapter: DistantAdapter {
  let process: PeerProcess
  let fabric: String
  let capabilities: AdapterCapabilities
  private let queuePairs = Mutex<[Int: PeerQueuePair]>([:])

  /// - Parameter twin: an adapter of the same kind here.
  init(_ kind: AdapterKind, twin: any Adapter) throws {
    process = try PeerProcess(kind)
    fabric = twin.fabric
    capabilities = twin.capabilities
  }

  func queuePair(_ object: Int) -> PeerQueuePair? { queuePairs.withLock { $0[object] } }

  func load(from address: UInt64, byteCount: Int) -> [UInt8] {
    guard case .bytes(let bytes)? = try? process.ask(.load(address: address, byteCount: byteCount))
    else { return [] }
    return [UInt8](bytes)
  }

  func store(_ bytes: [UInt8], at address: UInt64) {
    _ = try? process.ask(.store(address: address, Data(bytes)))
  }

  /// Asks for a new object.
  private func make(_ command: Command) throws(ResourceError) -> Int {
    do {
      if case .object(let object) = try process.ask(command) { return object }
    } catch { throw .invalidCapacity("\(error.refusal)") }
    throw .invalidCapacity("the other process is gone")
  }

  func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    PeerDomain(process, try make(.makeDomain))
  }

  func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue {
    PeerCompletionQueue(process, try make(.makeCompletionQueue(capacity: capacity)), capacity)
  }

  func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    guard let domain = protectionDomain as? PeerDomain else { throw .foreignParts }
    let object = try make(.makeSharedReceiveQueue(domain: domain.object, capacity: capacity))
    return PeerReceiveQueue(process, object, capacity)
  }

  func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    PeerEventChannel(self, try make(.makeEventChannel))
  }

  func makeQueuePair(_ attributes: QueuePairAttributes) throws(ResourceError) -> any QueuePair {
    guard let domain = attributes.protectionDomain as? PeerDomain,
      let sends = attributes.sendCompletionQueue as? PeerCompletionQueue,
      let receives = attributes.receiveCompletionQueue as? PeerCompletionQueue
    else { throw .foreignParts }
    let parts = QueuePairParts(
      domain: domain.object, sendQueue: sends.object, receiveQueue: receives.object,
      sendCapacity: attributes.sendCapacity, receiveCapacity: attributes.receiveCapacity,
      sharedReceiveQueue: (attributes.sharedReceiveQueue as? PeerReceiveQueue)?.object)
    guard case .queuePair(let object, let number)? = try? process.ask(.makeQueuePair(parts)) else {
      throw .invalidCapacity("the other process did not make a queue pair")
    }
    let made = PeerQueuePair(process, object, number: number)
    queuePairs.withLock { $0[object] = made }
    return made
  }

  func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    guard let channel = events as? PeerEventChannel else { throw .invalidState }
    do {
      guard
        case .object(let object) = try process.ask(
          .listen(path: address.endpoint, channel: channel.object))
      else { throw ConnectError.invalidState }
      return PeerListener(process, object, address)
    } catch let error as Refused { throw ConnectError(error) } catch { throw .invalidState }
  }

  func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    throw .invalidAddress("the other process only listens")
  }
}

extension ConnectError {
  init(_ error: Refused) {
    self =
      switch error.refusal {
      case .addressInUse(let words): .addressInUse(words)
      case .privateDataTooLong: .privateDataTooLong
      case .invalidState: .invalidState
      default: .unreachable("\(error.refusal)")
      }
  }
}

extension PostError {
  init(_ error: Refused) {
    guard case .post(let count, let words) = error.refusal, let reason = Reason(rawValue: words)
    else { fatalError("not the refusal of a post: \(error)") }
    self.init(acceptedCount: count, reason: reason)
  }
}

extension RegistrationError {
  init(_ error: Refused) {
    self =
      switch error.refusal {
      case .emptyOrWrapping: .emptyOrWrapping
      case .notWithinRegion: .notWithinRegion
      case .foreignMemory(let words): .foreignMemoryUnsupported(words)
      default: .system(.invalidArgument, doing: "\(error.refusal)")
      }
  }
}
