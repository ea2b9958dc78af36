import FabricPlatform
import FabricVerbs
import Foundation
import Synchronization

@testable import ContractPeer

/// An object of the other process.
class PeerObject {
  let process: PeerProcess
  let object: Int

  init(_ process: PeerProcess, _ object: Int) {
    self.process = process
    self.object = object
  }
}

final class PeerDomain: PeerObject, ProtectionDomain, @unchecked Sendable {
  private let regions = Mutex<[LocalKey: Int]>([:])

  private func region(_ region: MemoryRegion) -> Int {
    regions.withLock { $0[region.localKey] } ?? 0
  }

  func allocate(byteCount: Int, access: AccessRights) throws(RegistrationError) -> MemoryRegion {
    let command = Command.allocate(domain: object, byteCount: byteCount, access: access.rawValue)
    let reply: Reply
    do { reply = try process.ask(command) } catch { throw RegistrationError(error) }
    guard case .region(let number, let address, let local, let remote) = reply else {
      throw .system(.brokenPipe, doing: "asking the other process")
    }
    let key = LocalKey(rawValue: local)
    regions.withLock { $0[key] = number }
    return MemoryRegion(
      address: address, byteCount: byteCount, access: access, localKey: key,
      remoteKey: remote.map { RemoteKey(rawValue: $0) }, owner: nil)
  }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    do {
      try process.ask(.register(domain: object, address: address, byteCount: byteCount))
    } catch { throw RegistrationError(error) }
    throw .system(.invalidArgument, doing: "registering memory that was expected to be refused")
  }

  func deregister(_ region: MemoryRegion) {
    _ = try? process.ask(.deregister(domain: object, region: self.region(region)))
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    let command = Command.grant(
      domain: object, region: self.region(region), access: access.rawValue, offset: offset,
      byteCount: byteCount, only: (queuePair as? PeerQueuePair)?.object)
    do {
      if case .number(let key) = try process.ask(command) { return RemoteKey(rawValue: key) }
    } catch { throw RegistrationError(error) }
    throw .system(.brokenPipe, doing: "asking the other process")
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    let command = Command.lend(
      domain: object, address: element.address, byteCount: element.byteCount,
      key: element.localKey.rawValue, access: access.rawValue, number: queuePairNumber)
    do {
      if case .number(let key) = try process.ask(command) { return RemoteKey(rawValue: key) }
    } catch { throw RegistrationError(error) }
    throw .system(.brokenPipe, doing: "asking the other process")
  }

  func revoke(_ key: RemoteKey) {
    _ = try? process.ask(.revoke(domain: object, key: key.rawValue))
  }
}

final class PeerCompletionQueue: PeerObject, CompletionQueue, @unchecked Sendable {
  let capacity: Int

  init(_ process: PeerProcess, _ object: Int, _ capacity: Int) {
    self.capacity = capacity
    super.init(process, object)
  }

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    let reply = try? process.ask(.poll(queue: object, capacity: completions.count))
    guard case .bytes(let bytes)? = reply else { return 0 }
    let found = values(WorkCompletion.self, in: bytes)
    for index in found.indices { completions[index] = found[index] }
    return found.count
  }

  /// The other process's own descriptor, in this process.
  private(set) lazy var descriptor: CInt? = {
    var number: CInt?
    _ = try? process.ask(.descriptor(queue: object)) { number = $0 }
    return number
  }()

  deinit { if let descriptor { close(descriptor) } }

  func arm() { _ = try? process.ask(.arm(queue: object)) }
  func disarm() { _ = try? process.ask(.disarm(queue: object)) }
}

final class PeerReceiveQueue: PeerObject, SharedReceiveQueue, @unchecked Sendable {
  let capacity: Int

  init(_ process: PeerProcess, _ object: Int, _ capacity: Int) {
    self.capacity = capacity
    super.init(process, object)
  }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    try process.postReceive(requests, to: object)
  }
}

final class PeerQueuePair: PeerObject, QueuePair, @unchecked Sendable {
  let number: UInt32

  init(_ process: PeerProcess, _ object: Int, number: UInt32) {
    self.number = number
    super.init(process, object)
  }

  var state: QueuePairState {
    guard case .number(let state)? = try? process.ask(.state(queuePair: object)) else {
      return .error
    }
    return QueuePairState(rawValue: UInt8(state))!
  }

  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    let requests = requests.indices.map { requests[$0] }
    do {
      try process.ask(.postSend(queuePair: object, data(of: requests)))
    } catch { throw PostError(error) }
  }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    try process.postReceive(requests, to: object)
  }

  func disconnect() { _ = try? process.ask(.disconnect(queuePair: object)) }
  func destroy() { _ = try? process.ask(.destroy(queuePair: object)) }
}

extension PeerProcess {
  func postReceive(_ requests: Span<ReceiveRequest>, to queue: Int) throws(PostError) {
    let requests = requests.indices.map { requests[$0] }
    do {
      try ask(.postReceive(queue: queue, data(of: requests)))
    } catch { throw PostError(error) }
  }
}

final class PeerEventChannel: PeerObject, ConnectionEventChannel, @unchecked Sendable {
  private unowned let adapter: PeerAdapter
  let descriptor: CInt? = nil

  init(_ adapter: PeerAdapter, _ object: Int) {
    self.adapter = adapter
    super.init(adapter.process, object)
  }

  func poll() -> ConnectionEvent? {
    while case .event(let event)? = try? process.ask(.nextEvent(channel: object)) {
      switch event {
      case .connectRequest(let number, let data):
        return .connectRequest(PeerConnectionRequest(process, number, [UInt8](data)))
      case .established(let number, let data):
        guard let pair = adapter.queuePair(number) else { continue }
        return .established(pair, privateData: [UInt8](data))
      case .disconnected(let number, let reason):
        guard let pair = adapter.queuePair(number) else { continue }
        return .disconnected(pair, DisconnectReason(reason))
      case .other: continue
      }
    }
    return nil
  }
}

extension DisconnectReason {
  init(_ reason: Reply.Reason) {
    self =
      switch reason {
      case .local: .local
      case .peer: .peer
      case .peerDied: .peerDied
      case .failure(let words): .failure(words)
      }
  }
}

final class PeerConnectionRequest: PeerObject, ConnectionRequest, @unchecked Sendable {
  let privateData: [UInt8]
  let peerDescription = "a peer of another process"

  init(_ process: PeerProcess, _ object: Int, _ privateData: [UInt8]) {
    self.privateData = privateData
    super.init(process, object)
  }

  deinit { _ = try? process.ask(.forget(object)) }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard let queuePair = queuePair as? PeerQueuePair, let events = events as? PeerEventChannel
    else { throw .invalidState }
    do {
      try process.ask(
        .accept(
          request: object, queuePair: queuePair.object, Data(privateData), channel: events.object))
    } catch { throw ConnectError(error) }
  }

  func reject(privateData: [UInt8]) {
    _ = try? process.ask(.reject(request: object, Data(privateData)))
  }
}

final class PeerListener: PeerObject, Listener, @unchecked Sendable {
  let address: FabricAddress

  init(_ process: PeerProcess, _ object: Int, _ address: FabricAddress) {
    self.address = address
    super.init(process, object)
  }

  deinit { _ = try? process.ask(.forget(object)) }

  func close() { _ = try? process.ask(.close(listener: object)) }
}
