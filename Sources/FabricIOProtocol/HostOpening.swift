public import FabricStorage
import FabricWire

/// What a host says when it connects. (IO-10 to IO-14)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFIO` |
/// | 4 | 2 | protocol version |
/// | 6 | 1 | access: 0 read-only, 1 read-write |
/// | 7 | 1 | length of the volume's name; 0: discovery |
/// | 8 | 16 | session, high then low |
/// | 24 | 4 | epoch |
/// | 28 | 2 | most commands in flight |
/// | 30 | 1 | length of the host's name |
/// | 31 | 1 | number of the connection in its epoch |
/// | 32 | | the volume's name, then the host's |
public struct HostOpening: Equatable, Sendable {
  /// All of a host's connections to one volume belong to one session.
  public struct SessionIdentifier: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
      self.high = high
      self.low = low
    }

    /// A new one at random.
    public static func random() -> SessionIdentifier {
      var generator = SystemRandomNumberGenerator()
      return SessionIdentifier(high: generator.next(), low: generator.next())
    }
  }

  /// The volume to be attached; empty: a discovery channel.
  public var volumeName: String
  /// Who asks, an NQN-style name.
  public var hostName: String
  public var session: SessionIdentifier
  /// Connections of a greater epoch take the place of all earlier ones; those of one epoch stand beside
  /// each other.
  public var epoch: UInt32
  /// Tells apart the connections of one epoch.
  public var number: UInt8
  public var access: VolumeAccess
  /// The most commands that the host will have in flight.
  public var depth: UInt16

  /// - Parameters: names of at most 64 bytes, together at most 96.
  public init(
    volumeName: String, hostName: String, session: SessionIdentifier, epoch: UInt32 = 1,
    number: UInt8 = 0, access: VolumeAccess = .readWrite, depth: UInt16 = 128
  ) {
    self.volumeName = volumeName
    self.hostName = hostName
    self.session = session
    self.epoch = epoch
    self.number = number
    self.access = access
    self.depth = depth
  }

  /// What the connection is called in its session.
  public var connection: ConnectionName { ConnectionName(epoch: epoch, number: number) }

  /// The bytes to connect with.
  ///
  /// - Throws: `.invalidName` for a name that is too long, or a host without one.
  public func encoded() throws(ProtocolFault) -> [UInt8] {
    guard volumeName.utf8.count <= IOProtocol.maximumNameByteCount else {
      throw .invalidName(record: "the opening", field: "the volume's name")
    }
    guard WireName.isValid(hostName),
      32 + volumeName.utf8.count + hostName.utf8.count <= IOProtocol.maximumOpeningByteCount
    else { throw .invalidName(record: "the opening", field: "the host's name") }
    var writer = WireWriter()
    writer.append(IOProtocol.mark)
    writer.append(IOProtocol.version)
    writer.append(access == .readWrite ? 1 : 0 as UInt8)
    writer.append(UInt8(volumeName.utf8.count))
    writer.append(session.high)
    writer.append(session.low)
    writer.append(epoch)
    writer.append(depth)
    writer.append(UInt8(hostName.utf8.count))
    writer.append(number)
    writer.append(volumeName)
    writer.append(hostName)
    return writer.bytes
  }

  /// Reads the opening of a peer.
  ///
  /// - Throws: every case of `ProtocolFault`.
  public init(decoding bytes: [UInt8]) throws(ProtocolFault) {
    self = try bytes.withWireView { view throws(ProtocolFault) in try Self(view) }
  }

  private init(_ view: WireView) throws(ProtocolFault) {
    let record = "the opening"
    try Self.checkStart(of: view, shortest: 32, record: record)
    guard view.uint8(at: 6) <= 1 else {
      throw .invalidField(record: record, field: "access", found: UInt64(view.uint8(at: 6)))
    }
    let depth = view.uint16(at: 28)
    guard depth > 0 else { throw .invalidField(record: record, field: "depth", found: 0) }
    let volumeCount = Int(view.uint8(at: 7))
    let hostCount = Int(view.uint8(at: 30))
    guard view.byteCount == 32 + volumeCount + hostCount else {
      throw .wrongByteCount(
        record: record, expected: 32 + volumeCount + hostCount, found: view.byteCount)
    }
    let volume = try WireName.decode(
      view, at: 32, byteCount: volumeCount, record: record, field: "the volume's name")
    let host = try WireName.decode(
      view, at: 32 + volumeCount, byteCount: hostCount, record: record, field: "the host's name")
    guard !host.isEmpty else { throw .invalidName(record: record, field: "the host's name") }
    self.init(
      volumeName: volume, hostName: host,
      session: SessionIdentifier(high: view.uint64(at: 8), low: view.uint64(at: 16)),
      epoch: view.uint32(at: 24), number: view.uint8(at: 31),
      access: view.uint8(at: 6) == 1 ? .readWrite : .readOnly, depth: depth)
  }

  /// Checks the mark and the version, which no release changes the place of.
  static func checkStart(
    of view: WireView, shortest: Int, record: String
  ) throws(ProtocolFault) {
    guard view.byteCount >= 6 else {
      throw .wrongByteCount(record: record, expected: shortest, found: view.byteCount)
    }
    guard view.uint32(at: 0) == IOProtocol.mark else {
      throw .foreignOpening(found: view.uint32(at: 0))
    }
    guard view.uint16(at: 4) == IOProtocol.version else {
      throw .versionMismatch(expected: IOProtocol.version, found: view.uint16(at: 4))
    }
    guard view.byteCount >= shortest else {
      throw .wrongByteCount(record: record, expected: shortest, found: view.byteCount)
    }
  }
}
