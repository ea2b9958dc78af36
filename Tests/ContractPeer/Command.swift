import FabricVerbs
import Foundation

/// What a test has another process do with an adapter there; objects are named by numbers, which
/// the other process gives. Requests and completions travel as they lie in memory: both programs
/// are of one build.
enum Command: Codable {
  case makeDomain, makeEventChannel
  case makeCompletionQueue(capacity: Int)
  case makeSharedReceiveQueue(domain: Int, capacity: Int)
  case makeQueuePair(QueuePairParts)
  case allocate(domain: Int, byteCount: Int, access: UInt8)
  case register(domain: Int, address: UInt64, byteCount: Int)
  case deregister(domain: Int, region: Int)
  case grant(domain: Int, region: Int, access: UInt8, offset: Int, byteCount: Int, only: Int?)
  case lend(
    domain: Int, address: UInt64, byteCount: UInt32, key: UInt32, access: UInt8, number: UInt32)
  case revoke(domain: Int, key: UInt32)
  case load(address: UInt64, byteCount: Int)
  case store(address: UInt64, Data)

  case listen(path: String, channel: Int)
  case close(listener: Int)
  case nextEvent(channel: Int)
  case accept(request: Int, queuePair: Int, Data, channel: Int)
  case reject(request: Int, Data)

  case state(queuePair: Int)
  case postSend(queuePair: Int, Data)
  case postReceive(queue: Int, Data)
  case disconnect(queuePair: Int)
  case destroy(queuePair: Int)

  case poll(queue: Int, capacity: Int)
  case arm(queue: Int)
  case disarm(queue: Int)
  /// Answered with the descriptor itself.
  case descriptor(queue: Int)

  /// Nobody refers to the object any more.
  case forget(Int)
}

/// A queue pair to be made.
struct QueuePairParts: Codable {
  var domain: Int
  var sendQueue: Int
  var receiveQueue: Int
  var sendCapacity: Int
  var receiveCapacity: Int
  var sharedReceiveQueue: Int?
}

/// What came of a command.
enum Reply: Codable {
  case done
  case object(Int)
  case queuePair(Int, number: UInt32)
  case region(Int, address: UInt64, localKey: UInt32, remoteKey: UInt32?)
  case number(UInt32)
  case bytes(Data)
  case event(Event)
  case refused(Refusal)

  enum Event: Codable {
    case connectRequest(Int, Data)
    case established(queuePair: Int, Data)
    case disconnected(queuePair: Int, Reason)
    case other
  }

  enum Reason: Codable {
    case local, peer, peerDied
    case failure(String)
  }
}

/// An error of a call, as far as the contract tells them apart.
enum Refusal: Codable {
  case post(acceptedCount: Int, reason: String)
  case emptyOrWrapping, notWithinRegion
  case foreignMemory(String)
  case addressInUse(String)
  case privateDataTooLong, invalidState
  case other(String)

  init(_ error: any Error) {
    switch error {
    case let error as PostError:
      self = .post(acceptedCount: error.acceptedCount, reason: error.reason.rawValue)
    case RegistrationError.emptyOrWrapping: self = .emptyOrWrapping
    case RegistrationError.notWithinRegion: self = .notWithinRegion
    case RegistrationError.foreignMemoryUnsupported(let words): self = .foreignMemory(words)
    case ConnectError.addressInUse(let words): self = .addressInUse(words)
    case ConnectError.privateDataTooLong: self = .privateDataTooLong
    case ConnectError.invalidState: self = .invalidState
    default: self = .other("\(error)")
    }
  }
}

/// Values as they lie in memory.
func data<Value: BitwiseCopyable>(of values: [Value]) -> Data {
  unsafe values.withUnsafeBytes { unsafe Data($0) }
}

/// The values that lie in `data`.
func values<Value: BitwiseCopyable>(_ type: Value.Type, in data: Data) -> [Value] {
  unsafe data.withUnsafeBytes { raw in
    stride(from: 0, to: raw.count, by: MemoryLayout<Value>.stride).map { offset in
      unsafe raw.loadUnaligned(fromByteOffset: offset, as: Value.self)
    }
  }
}
