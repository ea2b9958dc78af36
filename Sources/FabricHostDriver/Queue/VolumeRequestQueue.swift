public import FabricStorage
public import FabricVerbs

/// A queue of requests to a volume on a unit, whatever protocol carries them: what `RemoteVolume` is
/// driven with.
///
/// Threads: confined to the thread that runs the queue's completion service.
public protocol VolumeRequestQueue: AnyObject {
  /// What the unit says of the volume; nil before the first connection.
  var info: RemoteVolumeInfo? { get }
  var state: RemoteVolumeQueue.State { get }
  /// Why requests end with `aborted` although the queue is of use; nil: the unit says so of itself.
  var abortReason: RemoteVolumeError? { get }
  /// Where memory for requests is registered.
  var memoryDomain: any ProtectionDomain { get }
  /// Requests that may be submitted now.
  var freeCount: Int { get }
  /// Requests submitted and not ended.
  var inFlightCount: Int { get }
  /// Starts to connect.
  func attach()
  /// Memory for requests of this queue, zeroed and page-aligned. Lives as long as the region.
  func allocate(byteCount: Int) throws(RegistrationError) -> MemoryRegion
  /// Takes a request, which ends once; false when as many as may be are in flight, or the queue is
  /// closed.
  @discardableResult
  func submit(_ request: RemoteRequest) -> Bool
  /// Posts what was submitted since the last time.
  func flushSubmissions()
  /// Closes the connection in order; requests in flight end with `aborted`.
  func close()
}

/// Told of what happens on a queue, on the thread of its completion service.
public protocol VolumeRequestSink: AnyObject {
  /// Requests ended; once for each batch. May submit further ones.
  func completed(_ completions: Span<BlockCompletion>)
  /// The connection came, went, or is given up.
  func changed(_ state: RemoteVolumeQueue.State)
}

extension RemoteVolumeQueue: VolumeRequestQueue {
  /// What has no answer in time ends the queue.
  public var abortReason: RemoteVolumeError? { nil }
}
