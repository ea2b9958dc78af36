/// A way in to the volumes, with a protocol of its own that the common layer does not know.
///
/// The common layer calls these functions on whatever thread made the change.
public protocol Subsystem: AnyObject, Sendable {
  /// Unique in its common layer.
  var name: String { get }
  /// A volume can be served from now on.
  func volumeAdded(_ volume: Volume)
  /// A volume has more blocks than before.
  func volumeGrown(_ volume: Volume)
  /// A volume is gone; no port of this subsystem was open on it.
  func volumeRemoved(_ volume: Volume)
  /// The thread of `port` should poll it soon, so that it can close. A subsystem whose threads
  /// sleep wakes that one; those that poll anyway need do nothing.
  func portNeedsPoll(_ port: VolumePort)
}

extension Subsystem {
  public func volumeAdded(_ volume: Volume) {}
  public func volumeGrown(_ volume: Volume) {}
  public func volumeRemoved(_ volume: Volume) {}
  public func portNeedsPoll(_ port: VolumePort) {}
}

/// Receives what ended on a port, on the port's thread, from inside its `poll`.
public protocol VolumePortHandler: AnyObject {
  /// Requests ended; once for each batch.
  func volumePort(_ port: VolumePort, completed completions: Span<BlockCompletion>)
  /// Everything of a quiesced client that had been accepted has ended and been reported.
  func volumePort(_ port: VolumePort, quiesced client: UInt32)
}

extension VolumePortHandler {
  public func volumePort(_ port: VolumePort, quiesced client: UInt32) {}
}
