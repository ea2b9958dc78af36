import CFabricLinux
import FabricCompletion
import FabricHostDriver
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs

/// The volume's queue, by which a device's requests go to the unit, and the device's own queues: the
/// service's thread carries all of them on.
///
/// Threads: calls come from one thread, which is not one of the service's, and wait for that.
final class DeviceConnection: @unchecked Sendable {
  typealias Queue = KernelQueue & ProgressSource

  private let service: CompletionService
  private let options: RemoteVolumeQueue.Options
  private let tell: @Sendable (HostVolumeEvent) -> Void
  // The service's thread's
  private var volume: RemoteVolumeQueue?
  private var queues: [any Queue] = []
  /// The same, for each request.
  private var references: [UncountedReference<KernelQueue>] = []

  /// - Parameters:
  ///   - service: with one thread of its own.
  ///   - tell: called on the service's thread.
  init(
    _ service: CompletionService, _ options: RemoteVolumeQueue.Options,
    tell: @escaping @Sendable (HostVolumeEvent) -> Void
  ) {
    self.service = service
    self.options = options
    self.tell = tell
  }

  /// Starts to connect; `changed` tells how it goes.
  func connect(
    _ addresses: [VolumeAddress], adapters: [any Adapter]
  ) throws(ChannelOpenError) {
    let result = service.result { [self] () -> Result<Void, ChannelOpenError> in
      // The thread that carries the kernel's requests on is not to wait for memory that they free.
      _ = fabric_set_io_flusher()
      do throws(ChannelOpenError) {
        let volume = try RemoteVolumeQueue(
          addresses, adapters: adapters, service: service, options: options, handler: self)
        self.volume = volume
        volume.attach()
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Has the device's queues carried on.
  ///
  /// - Parameter make: makes them, in order of their numbers, on the service's thread; what they tell
  ///   goes to the closure that it is given.
  func serve(
    _ make:
      @escaping @Sendable (
        RemoteVolumeQueue, @escaping @Sendable (HostVolumeEvent) -> Void
      ) throws(HostDeviceError) -> [any Queue]
  ) throws(HostDeviceError) {
    let result = service.result { [self] () -> Result<Void, HostDeviceError> in
      guard let volume else { return .success(()) }
      do throws(HostDeviceError) {
        queues = try make(volume, tell)
      } catch { return .failure(error) }
      references = queues.map { UncountedReference($0 as KernelQueue) }
      for queue in queues { service.add(queue as any ProgressSource) }
      return .success(())
    }
    try result.get()
  }

  var figures: DeviceFigures {
    service.result { [self] in
      queues.reduce(into: DeviceFigures()) { $0.add($1.requests.figures) }
    }
  }

  func withQueue<Result: Sendable>(
    _ body: @escaping @Sendable (RemoteVolumeQueue?) -> Result
  ) -> Result {
    service.result { [self] in body(volume) }
  }

  /// Ends what is under way with an error, and what comes.
  func closeVolume() {
    service.result { [self] in
      volume?.close()
      volume = nil
      for queue in queues { queue.finishBatch() }
    }
  }

  /// After `closeVolume`: the kernel is not answered any more.
  func closeQueues() {
    service.result { [self] in
      for queue in queues {
        service.remove(queue as any ProgressSource)
        queue.close()
      }
      references = []
      queues = []
    }
  }
}

extension DeviceConnection: RemoteVolumeHandler {
  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    for place in completions.indices {
      let tag = completions[place].tag
      let status = completions[place].status
      references[Int(tag >> 16)].with { $0.partEnded(Int(tag & 0xffff), status) }
    }
    for index in references.indices { references[index].with { $0.finishBatch() } }
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    tell(.changed(state))
  }
}
