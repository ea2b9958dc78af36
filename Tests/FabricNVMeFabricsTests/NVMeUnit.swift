import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage

/// A subsystem with volumes, on a thread of its own.
class NVMeUnit {
  let layer = CommonLayer()
  let service: CompletionService
  let target: NVMeTarget
  let options: FrontEndOptions
  let name = NVMSubsystem.Options().name
  /// What is to be stopped before the target.
  var stops: [() -> Void] = []

  /// - Parameters:
  ///   - stores: served as volumes of these names, in order.
  ///   - spin: how long the unit looks for work before it sleeps.
  init(
    _ stores: [(name: String, store: any Store)]? = nil, spin: Duration = .microseconds(50),
    _ change: (inout FrontEndOptions) -> Void = { _ in }
  ) throws {
    let stores = try stores ?? [("disk", try MemoryStore(byteCount: 16 << 20))]
    let volumes = stores.map { Volume(name: $0.name, store: $0.store) }
    for volume in volumes { try layer.add(volume) }
    var options = CompletionService.Options()
    options.threadCount = 1
    options.spin = spin
    service = try CompletionService(options)
    target = try NVMeTarget(options: .init(), layer: layer, service: service, volumes: volumes)
    var frontEnd = FrontEndOptions()
    change(&frontEnd)
    self.options = frontEnd
  }

  deinit {
    for stop in stops { stop() }
    target.stop()
    service.stop()
  }
}
