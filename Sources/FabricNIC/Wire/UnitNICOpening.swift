public import FabricWire

/// What a unit answers to an opening that it accepts. (NI-5)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFNI` |
/// | 4 | 2 | protocol version |
/// | 6 | 6 | the address that is the host's to send from |
/// | 12 | 4 | MTU |
/// | 16 | 1 | link: 0 down, 1 up |
/// | 17 | 1 | length of the unit's name |
/// | 18 | 2 | 0 |
/// | 20 | | the unit's name |
public struct UnitNICOpening: Equatable, Sendable {
  public var unitName: String
  public var address: MACAddress
  public var link: LinkNotice

  public init(unitName: String, address: MACAddress, link: LinkNotice) {
    self.unitName = unitName
    self.address = address
    self.link = link
  }

  /// The bytes to accept with.
  ///
  /// - Throws: `.invalidName` for a unit's name that is empty or too long.
  public func encoded() throws(NICFault) -> [UInt8] {
    guard (1...NICProtocol.maximumNameByteCount).contains(unitName.utf8.count) else {
      throw .invalidName(record: "the answer", field: "the unit's name")
    }
    var writer = WireWriter()
    writer.append(NICProtocol.mark)
    writer.append(NICProtocol.version)
    writer.append(address)
    writer.append(UInt32(link.mtu))
    writer.append(link.isUp ? 1 : 0 as UInt8)
    writer.append(UInt8(unitName.utf8.count))
    writer.append(0 as UInt16)
    writer.append(unitName)
    return writer.bytes
  }

  /// Reads the answer of a peer.
  public init(decoding bytes: [UInt8]) throws(NICFault) {
    self = try bytes.withWireView { view throws(NICFault) in try Self(view) }
  }

  private init(_ view: WireView) throws(NICFault) {
    let record = "the answer"
    try view.checkStart(shortest: 20, record: record)
    let count = Int(view.uint8(at: 17))
    guard view.byteCount == 20 + count else {
      throw .wrongByteCount(record: record, expected: 20 + count, found: view.byteCount)
    }
    let address = view.address(at: 6)
    guard address.isOfStation else {
      throw .invalidField(record: record, field: "the address", found: address.value)
    }
    self.init(
      unitName: try view.name(
        at: 20, byteCount: count, record: record, field: "the unit's name"),
      address: address,
      link: try LinkNotice(
        mtu: view.uint32(at: 12), state: view.uint8(at: 16), record: record))
  }
}

/// How a NIC's port is. (NI-10)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | MTU |
/// | 4 | 1 | link: 0 down, 1 up |
/// | 5 | 3 | 0 |
public struct LinkNotice: Equatable, Sendable {
  public static let byteCount = 8
  public var isUp: Bool
  /// Bytes of a packet, without the frame's own header.
  public var mtu: Int

  public init(isUp: Bool, mtu: Int) {
    self.isUp = isUp
    self.mtu = mtu
  }

  public var encoded: [UInt8] {
    var writer = WireWriter()
    writer.append(UInt32(mtu))
    writer.append(isUp ? 1 : 0 as UInt8)
    for _ in 0..<3 { writer.append(0 as UInt8) }
    return writer.bytes
  }

  public init(decoding view: WireView) throws(NICFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "a link notice", expected: Self.byteCount, found: view.byteCount)
    }
    try self.init(mtu: view.uint32(at: 0), state: view.uint8(at: 4), record: "a link notice")
  }

  fileprivate init(mtu: UInt32, state: UInt8, record: String) throws(NICFault) {
    guard NICProtocol.mtus.contains(Int(mtu)) else {
      throw .invalidField(record: record, field: "the MTU", found: UInt64(mtu))
    }
    guard state <= 1 else {
      throw .invalidField(record: record, field: "the link", found: UInt64(state))
    }
    self.init(isUp: state == 1, mtu: Int(mtu))
  }
}

/// Another address that a host wants to send from, and whether it may: 6 bytes, and in the answer 2 more, of which the
/// first is 1 where it may. (NI-10)
public struct AddressClaim: Equatable, Sendable {
  public static let byteCount = 6
  public var address: MACAddress

  public init(_ address: MACAddress) { self.address = address }

  public var encoded: [UInt8] { address.bytes }

  public init(decoding view: WireView) throws(NICFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "an address claim", expected: Self.byteCount, found: view.byteCount)
    }
    address = view.address(at: 0)
    guard address.isOfStation else {
      throw .invalidField(
        record: "an address claim", field: "the address", found: address.value)
    }
  }
}

/// See `AddressClaim`.
public struct AddressAnswer: Equatable, Sendable {
  public static let byteCount = 8
  public var address: MACAddress
  public var isGranted: Bool

  public init(_ address: MACAddress, isGranted: Bool) {
    self.address = address
    self.isGranted = isGranted
  }

  public var encoded: [UInt8] { address.bytes + [isGranted ? 1 : 0, 0] }

  public init(decoding view: WireView) throws(NICFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "an address answer", expected: Self.byteCount, found: view.byteCount)
    }
    guard view.uint8(at: 6) <= 1 else {
      throw .invalidField(
        record: "an address answer", field: "the answer", found: UInt64(view.uint8(at: 6)))
    }
    self.init(view.address(at: 0), isGranted: view.uint8(at: 6) == 1)
  }
}
