import FabricWire

/// What a host says when it connects to a NIC. (NI-4)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFNI` |
/// | 4 | 2 | protocol version |
/// | 6 | 6 | the address that it wants to send from; 0: one that the unit chooses |
/// | 12 | 1 | length of the NIC's name |
/// | 13 | 1 | length of the host's name |
/// | 14 | 2 | 0 |
/// | 16 | 16 | session, high then low |
/// | 32 | | the NIC's name, then the host's |
public struct HostNICOpening: Equatable, Sendable {
  /// What tells a host's connections to one NIC from those of others.
  public struct Session: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
      self.high = high
      self.low = low
    }

    public static func random() -> Session {
      var generator = SystemRandomNumberGenerator()
      return Session(high: generator.next(), low: generator.next())
    }
  }

  public var nicName: String
  public var hostName: String
  public var session: Session
  /// nil: the unit chooses one.
  public var address: MACAddress?

  public init(nicName: String, hostName: String, session: Session, address: MACAddress?) {
    self.nicName = nicName
    self.hostName = hostName
    self.session = session
    self.address = address
  }

  /// Whether a greeting is one of a network driver's, of whatever version.
  public static func isMarked(_ greeting: [UInt8]) -> Bool {
    greeting.count >= 4 && Self.mark(of: greeting) == NICProtocol.mark
  }

  /// The bytes to connect with.
  ///
  /// - Throws: `.invalidName` for names that are empty or too long.
  public func encoded() throws(NICFault) -> [UInt8] {
    let record = "the opening"
    for (name, field) in [(nicName, "the NIC's name"), (hostName, "the host's name")]
    where !(1...NICProtocol.maximumNameByteCount).contains(name.utf8.count) {
      throw .invalidName(record: record, field: field)
    }
    var writer = WireWriter()
    writer.append(NICProtocol.mark)
    writer.append(NICProtocol.version)
    writer.append(address ?? MACAddress(value: 0))
    writer.append(UInt8(nicName.utf8.count))
    writer.append(UInt8(hostName.utf8.count))
    writer.append(0 as UInt16)
    writer.append(session.high)
    writer.append(session.low)
    writer.append(nicName)
    writer.append(hostName)
    return writer.bytes
  }

  /// Reads the opening of a peer.
  public init(decoding bytes: [UInt8]) throws(NICFault) {
    self = try bytes.withWireView { view throws(NICFault) in try Self(view) }
  }

  private init(_ view: WireView) throws(NICFault) {
    let record = "the opening"
    try view.checkStart(shortest: 32, record: record)
    let nicCount = Int(view.uint8(at: 12))
    let hostCount = Int(view.uint8(at: 13))
    guard view.byteCount == 32 + nicCount + hostCount else {
      throw .wrongByteCount(
        record: record, expected: 32 + nicCount + hostCount, found: view.byteCount)
    }
    guard view.uint16(at: 14) == 0 else {
      throw .invalidField(record: record, field: "bytes 14 and 15", found: 1)
    }
    let address = view.address(at: 6)
    guard address.value == 0 || address.isOfStation else {
      throw .invalidField(record: record, field: "the address", found: address.value)
    }
    self.init(
      nicName: try view.name(
        at: 32, byteCount: nicCount, record: record, field: "the NIC's name"),
      hostName: try view.name(
        at: 32 + nicCount, byteCount: hostCount, record: record, field: "the host's name"),
      session: Session(high: view.uint64(at: 16), low: view.uint64(at: 24)),
      address: address.value == 0 ? nil : address)
  }
}

extension HostNICOpening {
  fileprivate static func mark(of greeting: [UInt8]) -> UInt32 {
    greeting.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}
