import FabricVerbs
import Foundation

/// Carries out commands with an adapter of this process.
final class Worker {
  private let adapter: any Adapter
  private var objects: [Int: AnyObject] = [:]
  private var nextObject = 1
  private var descriptors: [CInt] = []

  init(_ adapter: any Adapter) { self.adapter = adapter }

  /// What goes with the next reply.
  func takeDescriptors() -> [CInt] {
    defer { descriptors = [] }
    return descriptors
  }

  private func keep(_ object: AnyObject) -> Int {
    defer { nextObject += 1 }
    objects[nextObject] = object
    return nextObject
  }

  private func object<Kind>(_ number: Int, as kind: Kind.Type = Kind.self) -> Kind {
    guard let object = objects[number] as? Kind else { fatalError("\(number) is no \(kind)") }
    return object
  }

  private func domain(_ number: Int) -> any ProtectionDomain { object(number) }
  private func completionQueue(_ number: Int) -> any CompletionQueue { object(number) }
  private func queuePair(_ number: Int) -> any QueuePair { object(number) }
  private func channel(_ number: Int) -> any ConnectionEventChannel { object(number) }
  private func request(_ number: Int) -> any ConnectionRequest { object(number) }

  func carryOut(_ command: Command) throws -> Reply {
    switch command {
    case .makeDomain: return .object(keep(try adapter.makeProtectionDomain()))
    case .makeEventChannel: return .object(keep(try adapter.makeEventChannel()))
    case .makeCompletionQueue(let capacity):
      return .object(keep(try adapter.makeCompletionQueue(capacity: capacity)))
    case .makeSharedReceiveQueue(let number, let capacity):
      return .object(
        keep(try adapter.makeSharedReceiveQueue(in: domain(number), capacity: capacity)))
    case .makeQueuePair(let parts): return try make(parts)

    case .allocate(let number, let byteCount, let access):
      let region = try domain(number).allocate(
        byteCount: byteCount, access: AccessRights(rawValue: access))
      return .region(
        keep(region), address: region.address, localKey: region.localKey.rawValue,
        remoteKey: region.remoteKey?.rawValue)
    case .register(let number, let address, let byteCount):
      _ = try domain(number).register(
        address: address, byteCount: byteCount, access: .localWrite, owner: nil)
    case .deregister(let number, let region): domain(number).deregister(object(region))
    case .grant(let number, let region, let access, let offset, let byteCount, let only):
      let key = try domain(number).grant(
        AccessRights(rawValue: access), to: object(region), offset: offset, byteCount: byteCount,
        only: only.map { queuePair($0) })
      return .number(key.rawValue)
    case .lend(let number, let address, let byteCount, let localKey, let access, let queuePair):
      let element = ScatterGatherElement(
        address: address, byteCount: byteCount, localKey: LocalKey(rawValue: localKey))
      let key = try domain(number).lend(
        element, for: AccessRights(rawValue: access), to: queuePair)
      return .number(key.rawValue)
    case .revoke(let number, let key): domain(number).revoke(RemoteKey(rawValue: key))
    case .load(let address, let byteCount):
      return unsafe .bytes(
        Data(bytes: UnsafeRawPointer(bitPattern: UInt(address))!, count: byteCount))
    case .store(let address, let bytes):
      unsafe bytes.copyBytes(
        to: UnsafeMutablePointer(bitPattern: UInt(address))!, count: bytes.count)

    case .listen(let path, let number):
      let address = FabricAddress(fabric: adapter.fabric, endpoint: path)
      return .object(keep(try adapter.listen(at: address, events: channel(number))))
    case .close(let number): object(number, as: (any Listener).self).close()
    case .nextEvent(let number): return channel(number).poll().map { .event(told($0)) } ?? .done
    case .accept(let number, let pair, let data, let events):
      try request(number).accept(
        queuePair(pair), privateData: [UInt8](data), events: channel(events))
    case .reject(let number, let data): request(number).reject(privateData: [UInt8](data))

    case .state(let number): return .number(UInt32(queuePair(number).state.rawValue))
    case .postSend(let number, let requests):
      try queuePair(number).postSend(values(SendRequest.self, in: requests).span)
    case .postReceive(let number, let requests):
      let requests = values(ReceiveRequest.self, in: requests)
      if let queue = objects[number] as? any SharedReceiveQueue {
        try queue.postReceive(requests.span)
      } else {
        try queuePair(number).postReceive(requests.span)
      }
    case .disconnect(let number): queuePair(number).disconnect()
    case .destroy(let number): queuePair(number).destroy()

    case .poll(let number, let capacity):
      var completions = [WorkCompletion](repeating: WorkCompletion(), count: capacity)
      var space = completions.mutableSpan
      let count = completionQueue(number).poll(into: &space)
      return .bytes(data(of: Array(completions[..<count])))
    case .arm(let number): completionQueue(number).arm()
    case .disarm(let number): completionQueue(number).disarm()
    case .descriptor(let number):
      if let descriptor = completionQueue(number).descriptor { descriptors = [descriptor] }
    case .forget(let number): objects[number] = nil
    }
    return .done
  }

  private func make(_ parts: QueuePairParts) throws -> Reply {
    let made = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain(parts.domain),
        sendCompletionQueue: completionQueue(parts.sendQueue),
        receiveCompletionQueue: completionQueue(parts.receiveQueue),
        sendCapacity: parts.sendCapacity, receiveCapacity: parts.receiveCapacity,
        sharedReceiveQueue: parts.sharedReceiveQueue.map { object($0) }))
    return .queuePair(keep(made), number: made.number)
  }

  private func told(_ event: ConnectionEvent) -> Reply.Event {
    switch event {
    case .connectRequest(let request): .connectRequest(keep(request), Data(request.privateData))
    case .established(let pair, let data): .established(queuePair: number(of: pair), Data(data))
    case .disconnected(let pair, let reason):
      .disconnected(queuePair: number(of: pair), told(reason))
    case .failed: .other
    }
  }

  private func told(_ reason: DisconnectReason) -> Reply.Reason {
    switch reason {
    case .local: .local
    case .peer: .peer
    case .peerDied: .peerDied
    case .failure(let words): .failure(words)
    }
  }

  private func number(of object: AnyObject) -> Int {
    objects.first { $0.value === object }?.key ?? 0
  }
}
