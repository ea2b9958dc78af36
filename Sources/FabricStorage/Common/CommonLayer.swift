import Synchronization

/// Between the stores and the subsystems that serve them: who is there, and who may do what.
///
/// It knows volumes and subsystems by name only. Any thread; the data path does not pass here but
/// through the ports that a `Registration` opens.
public final class CommonLayer: Sendable {
  private struct State {
    var volumes: [String: Volume] = [:]
    var registrations: [String: Registration] = [:]
    /// Ports open, and being opened, on each volume.
    var portCounts: [String: Int] = [:]
  }

  private let state = Mutex(State())

  public init() {}

  /// The volumes, by name.
  public var volumes: [Volume] {
    state.withLock { $0.volumes.values.sorted { $0.name < $1.name } }
  }

  /// - Throws: `.noSuchVolume`.
  public func volume(named name: String) throws(CommonLayerError) -> Volume {
    if let volume = state.withLock({ $0.volumes[name] }) { return volume }
    throw .noSuchVolume(name: name, available: volumes.map(\.name))
  }

  /// Serves a volume from now on and tells every subsystem.
  ///
  /// - Throws: `.duplicateVolume`.
  public func add(_ volume: Volume) throws(CommonLayerError) {
    let subsystems = state.withLock { state -> [any Subsystem]? in
      guard state.volumes[volume.name] == nil else { return nil }
      state.volumes[volume.name] = volume
      return state.registrations.values.map(\.subsystem)
    }
    guard let subsystems else { throw .duplicateVolume(name: volume.name) }
    for subsystem in subsystems { subsystem.volumeAdded(volume) }
  }

  /// Stops serving a volume and tells every subsystem.
  ///
  /// - Throws: `.noSuchVolume`, `.volumeInUse`.
  public func removeVolume(named name: String) throws(CommonLayerError) {
    let volume = try self.volume(named: name)
    let result = state.withLock { state -> Result<[any Subsystem], CommonLayerError> in
      let portCount = state.portCounts[name, default: 0]
      guard portCount == 0 else { return .failure(.volumeInUse(name: name, portCount: portCount)) }
      state.volumes[name] = nil
      return .success(state.registrations.values.map(\.subsystem))
    }
    for subsystem in try result.get() { subsystem.volumeRemoved(volume) }
  }

  /// Looks which volumes have become larger, and tells every subsystem of each. (ST-86)
  ///
  /// - Returns: those, by name.
  public func growVolumes() -> [Volume] {
    let grown = volumes.filter { $0.store.grow() }
    let subsystems = state.withLock { $0.registrations.values.map(\.subsystem) }
    for volume in grown {
      for subsystem in subsystems { subsystem.volumeGrown(volume) }
    }
    return grown
  }

  /// Takes a subsystem in. It is kept alive until it is deregistered.
  ///
  /// - Throws: `.duplicateSubsystem`.
  public func register(_ subsystem: any Subsystem) throws(CommonLayerError) -> Registration {
    let registration = Registration(subsystem: subsystem, layer: self)
    let isNew = state.withLock { state -> Bool in
      guard state.registrations[registration.name] == nil else { return false }
      state.registrations[registration.name] = registration
      return true
    }
    guard isNew else { throw .duplicateSubsystem(name: registration.name) }
    return registration
  }

  func forget(_ registration: Registration) {
    state.withLock { state in
      if state.registrations[registration.name] === registration {
        state.registrations[registration.name] = nil
      }
    }
  }

  /// Counts a port in; false when the volume is not served here any more.
  func portWillOpen(on volume: Volume) -> Bool {
    state.withLock { state in
      guard state.volumes[volume.name] === volume else { return false }
      state.portCounts[volume.name, default: 0] += 1
      return true
    }
  }

  func portDidClose(on volume: Volume) {
    state.withLock { $0.portCounts[volume.name, default: 1] -= 1 }
  }
}
