public import FabricCompletion
public import FabricPlatform
public import FabricStorage

/// Whoever's requests a served port carries, usually a connection. All calls come on the service's
/// thread.
public protocol PortUser: AnyObject {
  /// Requests have ended: a run of one poll. The tag of each is that of the request.
  func port(_ port: ServedPort, ended completions: Span<BlockCompletion>)
  /// After `ServedPort.quiesce`: everything has ended and been reported; the client is detached and
  /// nothing more is called.
  func portDidQuiesce(_ port: ServedPort)
}

/// One user's place at a served port. Plain data; valid from `ServedPort.attach` until
/// `PortUser.portDidQuiesce`.
public struct PortClient: BitwiseCopyable, Sendable {
  fileprivate let number: UInt32
}

/// A volume's port with certain rights, carried on by a front end's service, for all of that front
/// end's connections to the volume. Confined to the service's thread.
public final class ServedPort: ProgressSource, VolumePortHandler {
  public let volume: Volume
  public let access: VolumeAccess
  public let blockByteCount: UInt64
  /// The account that users share who have none of their own.
  public let sharedAccount: VolumeClient
  private var port: VolumePort!
  private var portReference: UncountedReference<VolumePort>!
  private unowned let frontEnd: FrontEnd
  /// By client; kept until they are detached.
  private var users: [(any PortUser)?] = [nil]
  private var quiescingCount = 0
  private var isArmed = false
  /// Whether the port may have something: looked at in every round, so it is kept here.
  var needsPoll = true

  init(
    _ volume: Volume, access: VolumeAccess, depth: Int, frontEnd: FrontEnd,
    registration: Registration
  ) throws(CommonLayerError) {
    self.volume = volume
    self.access = access
    self.frontEnd = frontEnd
    blockByteCount = UInt64(volume.blockByteCount)
    sharedAccount = VolumeClient(of: volume)
    port = try registration.openPort(on: volume, access: access, depth: depth, handler: self)
    portReference = UncountedReference(port)
  }

  // MARK: Users

  /// Takes a user in, and keeps it until it is quiesced.
  ///
  /// - Parameter account: what it wrote and has not flushed is accounted for there; nil: in
  ///   `sharedAccount`.
  public func attach(_ user: any PortUser, account: VolumeClient? = nil) -> PortClient {
    let number = port.attach(account ?? sharedAccount)
    while users.count <= Int(number) { users.append(nil) }
    users[Int(number)] = user
    return PortClient(number: number)
  }

  /// Hands a request over.
  ///
  /// - Parameters:
  ///   - request: its `client` is set here; its tag is of 32 bits.
  ///   - client: of the user, who is told of the request's end, never from inside this call.
  /// - Returns: false when the port is full or closing: to be tried again (`FrontEnd.wait`).
  public func submit(_ request: BlockRequest, for client: PortClient) -> Bool {
    var request = request
    request.client = client.number
    request.tag = UInt64(client.number) << 32 | request.tag & 0xFFFF_FFFF
    needsPoll = true
    return portReference.with { $0.submit(request) }
  }

  /// Where blocks lie in memory, so that a read need not pass through the port; nil: it must. The
  /// bytes may be sent from there for as long as the stream lives.
  public func directAddress(block: UInt64, blockCount: UInt32) -> UInt64? {
    portReference.with { $0.directAddress(block: block, blockCount: blockCount) }
  }

  /// Takes nothing more of a client, lets what it has here end and be reported, then detaches it and
  /// says so. To be called once.
  public func quiesce(_ client: PortClient) {
    quiescingCount += 1
    needsPoll = true
    port.quiesce(client.number)
  }

  // MARK: Progress

  public func progress() -> Int {
    guard needsPoll, !isArmed else { return 0 }
    port.flushSubmissions()
    let quiescing = quiescingCount
    let count = port.poll()
    // Who waited has gone on.
    if count > 0 || quiescingCount != quiescing { frontEnd.flush() }
    needsPoll = port.inFlightCount > 0 || quiescingCount > 0 || !port.isOpen
    return count
  }

  public var descriptor: CInt? { port.descriptor }

  // A port that is armed has been looked at, and a poll would end that: the service's last round
  // before it sleeps leaves the port alone.
  public func arm() { isArmed = port.arm() }
  public func disarm() { isArmed = false }
  public var nextDeadline: MonotonicTime? { nil }

  // MARK: What ended

  public func volumePort(_ port: VolumePort, completed completions: Span<BlockCompletion>) {
    var start = 0
    while start < completions.count {
      let client = completions[start].tag >> 32
      var end = start &+ 1
      while end < completions.count, completions[end].tag >> 32 == client { end &+= 1 }
      users[Int(client)]?.port(self, ended: completions.extracting(start..<end))
      start = end
    }
    frontEnd.somethingCameFree()
  }

  public func volumePort(_ port: VolumePort, quiesced client: UInt32) {
    quiescingCount -= 1
    port.detach(client)
    let user = users[Int(client)].take()
    user?.portDidQuiesce(self)
    frontEnd.somethingCameFree()
  }
}
