public import FabricVerbs
public import FabricWire

/// Asks for one of the addresses that a unit can be reached at. A listing begins with number 0 and ends
/// where there is none. (IO-42)
public struct AddressQuery: Equatable, Sendable {
  public var number: UInt16

  public init(_ number: UInt16) { self.number = number }

  /// The message's payload: the number.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(number)
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    guard view.byteCount == 2 else {
      throw .wrongByteCount(record: "an address query", expected: 2, found: view.byteCount)
    }
    number = view.uint16(at: 0)
  }
}

/// An address of a unit, or the end of their list. (IO-43)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | 1: an address; 0: there is none of that number |
/// | 1 | 1 | state of the paths through it |
/// | 2 | 1 | length of the fabric's name |
/// | 3 | 1 | length of the place |
/// | 4 | | the fabric's name, `tcp` say, then the place, `192.0.2.1:4420` say |
public struct AddressEntry: Equatable, Sendable {
  public struct Address: Equatable, Sendable {
    public var address: FabricAddress
    public var state: PathState

    public init(_ address: FabricAddress, state: PathState = .optimised) {
      self.address = address
      self.state = state
    }
  }

  /// The longest that an address may be, in bytes of both parts together.
  public static let maximumByteCount = 200

  /// nil: the list is at its end.
  public var address: Address?

  public init(_ address: Address?) { self.address = address }

  /// Whether an entry has room for an address.
  public static func fits(_ address: FabricAddress) -> Bool {
    !address.fabric.isEmpty && !address.endpoint.isEmpty
      && address.fabric.utf8.count + address.endpoint.utf8.count <= maximumByteCount
  }

  /// The message's payload; traps for an address that does not fit.
  public func encoded() -> [UInt8] {
    guard let address else { return [0, 0, 0, 0] }
    precondition(Self.fits(address.address), "an address of at most 200 bytes")
    var writer = WireWriter()
    writer.append(1 as UInt8)
    writer.append(address.state.rawValue)
    writer.append(UInt8(address.address.fabric.utf8.count))
    writer.append(UInt8(address.address.endpoint.utf8.count))
    writer.append(address.address.fabric)
    writer.append(address.address.endpoint)
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.invalidName`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "an address entry"
    guard view.byteCount >= 4 else {
      throw .wrongByteCount(record: record, expected: 4, found: view.byteCount)
    }
    guard view.uint8(at: 0) <= 1 else {
      throw .invalidField(record: record, field: "presence", found: UInt64(view.uint8(at: 0)))
    }
    let state = try PathState.decode(view.uint8(at: 1), record: record)
    let fabricCount = Int(view.uint8(at: 2))
    let placeCount = Int(view.uint8(at: 3))
    guard view.byteCount == 4 + fabricCount + placeCount else {
      throw .wrongByteCount(
        record: record, expected: 4 + fabricCount + placeCount, found: view.byteCount)
    }
    guard view.uint8(at: 0) == 1 else {
      address = nil
      return
    }
    guard fabricCount > 0, placeCount > 0,
      let fabric = String(validating: view.slice(4, fabricCount).array, as: UTF8.self),
      let place = String(
        validating: view.slice(4 + fabricCount, placeCount).array, as: UTF8.self)
    else { throw .invalidName(record: record, field: "the address") }
    address = Address(FabricAddress(fabric: fabric, endpoint: place), state: state)
  }
}
