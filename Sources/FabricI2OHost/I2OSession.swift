import FabricHostDriver
import FabricI2O
import FabricMessaging
import FabricStorage
import FabricVerbs
import FabricWire

/// One channel to a unit, from its opening until it is of use: status, place for replies, table of
/// devices, parameters of each. Confined to the thread of the endpoint's service. (IT-20 to IT-22, IT-51)
final class I2OSession: ChannelHandler {
  /// What was found out.
  struct Findings {
    let channel: Channel
    let unitName: String
    let maximumTransferByteCount: Int
    /// Messages that may be under way.
    let depth: Int
    /// In the order of their numbers; up to the one wanted, where one is.
    let devices: [(number: UInt16, facts: DeviceFacts)]
  }

  private enum Step: Equatable {
    case connecting, status, outbound, table
    case facts(Int)
    case done
  }

  /// Where in `region` what is written by the unit.
  private enum Place {
    static let status = 0
    static let word = 128
    static let answer = 4096
  }

  private let address: VolumeAddress
  private let endpoint: ChannelEndpoint
  private let wanted: String?
  private var completed: ((Result<Findings, RemoteVolumeError>) -> Void)?
  private let lendsKeys: Bool
  private var region: MemoryRegion?
  private var loan: RemoteKey?
  private var step = Step.connecting
  private var channel: Channel?
  private var opening = I2OUnitOpening(unitName: "", maximumTransferByteCount: 0)
  private var depth = 0
  private var entries: [DeviceTable.Entry] = []
  private var devices: [(number: UInt16, facts: DeviceFacts)] = []
  /// Who hears of the channel once it is of use; not kept alive.
  weak var user: I2OVolumeQueue?

  /// - Parameters:
  ///   - wanted: the name of the one volume to be found; nil: all.
  ///   - completed: called once, unless the session is ended before.
  init(
    _ address: VolumeAddress, endpoint: ChannelEndpoint, wanted: String?,
    completed: @escaping (Result<Findings, RemoteVolumeError>) -> Void
  ) {
    self.address = address
    self.endpoint = endpoint
    self.wanted = wanted
    self.completed = completed
    lendsKeys = endpoint.adapter.capabilities.peersAreStrangers
  }

  func begin(hostName: String, key: (any ChannelKey)?, depth: Int, timeout: Duration) {
    var options = ChannelOptions()
    options.key = key
    options.greeting = I2OHostOpening(hostName: key?.name ?? hostName).encoded()
    // The unit writes into requests' own memory; nothing is transferred to the host.
    options.bufferCount = 0
    let count = min(options.receiveCount, max(16, 2 * depth))
    options.receiveCount = count
    options.sendCount = count
    options.messageByteCount = I2OServer.messageByteCount
    endpoint.connect(to: address.unit, options: options, timeout: timeout, handler: self) {
      [self] result in
      switch result {
      case .success(let channel): opened(channel)
      case .failure(let error): end(.failure(.opening(error, of: address)))
      }
    }
  }

  /// Nobody is told anything any more.
  func end() {
    completed = nil
    user = nil
    release()
    channel?.close()
    channel = nil
  }

  private func opened(_ channel: Channel) {
    guard completed != nil else { return channel.close() }
    self.channel = channel
    do throws(I2OOpeningFault) {
      opening = try I2OUnitOpening(decoding: channel.peerGreeting)
    } catch { return fail("\(error); is this the address of another protocol?") }
    guard makeRegion(byteCount: 2 * Place.answer) else { return }
    step = .status
    askForStatus()
  }

  private func makeRegion(byteCount: Int) -> Bool {
    release()
    do throws(RegistrationError) {
      let made = try endpoint.protectionDomain.allocate(
        byteCount: byteCount, access: [.localWrite, .remoteWrite])
      if lendsKeys, let key = made.remoteKey { endpoint.protectionDomain.revoke(key) }
      region = made
      return true
    } catch {
      end(.failure(.resource(error.description)))
      return false
    }
  }

  private func release() {
    takeBackLoan()
    if let region { endpoint.protectionDomain.deregister(region) }
    region = nil
  }

  private func takeBackLoan() {
    if let loan { channel?.takeBack(loan) }
    loan = nil
  }

  /// A piece of the region for the unit to write to.
  private func piece(_ offset: Int, _ byteCount: Int) -> ScatterElement? {
    guard let region, let channel else { return nil }
    let element = region.element(offset: offset, byteCount: byteCount)
    var key = region.remoteKey
    if lendsKeys {
      takeBackLoan()
      key = try? channel.lend(element)
      loan = key
    }
    guard let key else { return nil }
    return ScatterElement(at: element.address, byteCount: UInt32(byteCount), key: key)
  }

  /// What the unit has written there, which it cannot change any more.
  private func written<Value>(
    _ offset: Int, _ byteCount: Int, _ body: (WireView) -> Value
  ) -> Value? {
    guard let region, byteCount > 0, offset + byteCount <= region.byteCount else { return nil }
    let bytes = unsafe Array(region.bytes[offset..<offset + byteCount])
    return unsafe bytes.withUnsafeBytes { body(unsafe WireView($0)) }
  }

  private func send(_ frame: RequestFrame?) {
    guard let channel, let frame else { return fail("there are no keys to memory any more") }
    if let refusal = frame.send(over: channel) { return fail("\(refusal)") }
    channel.flush()
  }

  // MARK: Steps

  private func askForStatus() {
    send(piece(Place.status, StatusBlock.byteCount).map { RequestFrame.statusGet($0) })
  }

  private func askForTable() {
    guard let region else { return }
    send(
      piece(Place.answer, region.byteCount - Place.answer).map {
        RequestFrame.tableNotify(knownIndicator: 0, into: $0, context: 1)
      })
  }

  private func askForFacts(_ index: Int) {
    if let wanted, devices.last?.facts.name == wanted { return done() }
    guard index < entries.count else { return done() }
    step = .facts(index)
    send(
      piece(Place.answer, ParameterLists.maximumResultByteCount).map {
        RequestFrame.parametersGet(
          of: entries[index].number, ParameterLists.operations(reading: DeviceFacts.groups),
          into: $0, context: 2)
      })
  }

  private func pushed(_ tag: UInt32) {
    switch step {
    case .status where tag == UInt32(I2O.Function.statusGet.rawValue):
      let found = written(Place.status, StatusBlock.byteCount) { StatusBlock($0) }
      guard let status = found ?? nil,
        status.frameWordCount >= UInt16(I2O.maximumFrameByteCount / 4)
      else { return fail("the unit's status makes no sense") }
      // A request, and an abort of it.
      guard status.depth > 1 else {
        return fail(
          "expected a unit that takes 2 messages or more at once, got \(status.depth); start it with "
            + "a greater --depth")
      }
      depth = Int(status.depth)
      let room = min(DeviceTable.byteCount(DeviceTable.maximumCount), Int(status.tableByteCount))
      guard makeRegion(byteCount: Place.answer + max(Place.answer, room)) else { return }
      step = .outbound
      send(piece(Place.word, 4).map { RequestFrame.outboundInit(wordTo: $0) })
    case .outbound where tag == UInt32(I2O.Function.outboundInit.rawValue):
      let word = written(Place.word, 4) { $0.uint32(at: 0) }
      guard word == I2O.OutboundStatus.complete.rawValue else {
        return fail("the unit does not want to send replies")
      }
      step = .table
      askForTable()
    default:
      fail("the unit wrote something that was not asked for")
    }
  }

  private func replied(_ header: FrameHeader, _ reply: ReplyFrame) {
    guard case .success(let count) = reply else {
      return fail("the unit answered function \(header.function) with \(reply)")
    }
    switch (step, I2O.Function(rawValue: header.function)) {
    case (.table, .tableNotify):
      let found = written(Place.answer, Int(clamping: count)) { DeviceTable($0) }
      guard let table = found ?? nil else { return fail("the unit's table makes no sense") }
      entries = table.entries
      askForFacts(0)
    case (.facts(let index), .parametersGet):
      let facts = written(Place.answer, Int(clamping: count)) { view -> DeviceFacts? in
        guard let values = ParameterLists.values(view), values.count == DeviceFacts.groups.count
        else { return nil }
        let parts = zip(values, DeviceFacts.groups).map { value, group in
          value.slice(0, min(value.byteCount, group.byteCount))
        }
        return DeviceFacts(info: parts[0], volumeSet: parts[1], identity: parts[2])
      }
      guard let facts = facts ?? nil else {
        return fail("what the unit says of device \(entries[index].number) makes no sense")
      }
      devices.append((entries[index].number, facts))
      askForFacts(index + 1)
    default:
      fail("the unit answered something that was not asked for")
    }
  }

  private func done() {
    guard let channel else { return }
    step = .done
    release()
    let completed = self.completed
    self.completed = nil
    completed?(
      .success(
        Findings(
          channel: channel, unitName: opening.unitName,
          maximumTransferByteCount: Int(clamping: opening.maximumTransferByteCount),
          depth: depth, devices: devices)))
  }

  private func fail(_ reason: String) {
    end(.failure(.unreachable(address: address, reason: "\(address): \(reason)")))
  }

  private func end(_ result: Result<Findings, RemoteVolumeError>) {
    let completed = self.completed
    end()
    completed?(result)
  }

  // MARK: Channel

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    if step == .done {
      user?.received(messages, over: channel)
      return
    }
    for index in messages.indices {
      let message = messages[index]
      if message.isPushCompletion {
        pushed(message.tag)
      } else if message.kind == I2O.messageKind, message.buffer == nil,
        let (header, reply) = ReplyFrame.decode(message.payload)
      {
        replied(header, reply)
      } else {
        fail("the unit sent a message that the protocol does not know")
      }
      guard self.channel != nil, step != .done else { return }
    }
  }

  func channelCanSend(_ channel: Channel) { user?.postUnsent() }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    if step == .done {
      user?.lost(because: "\(reason)")
      return
    }
    end(.failure(.turnedAway(address: address, reason: "\(reason)")))
  }
}
