import Synchronization

/// A subsystem's stay in the common layer. Any thread.
public final class Registration: Sendable {
  public let name: String
  let subsystem: any Subsystem
  private let layer: CommonLayer

  private struct State {
    var isOpen = true
    var ports: [ObjectIdentifier: VolumePort] = [:]
  }

  private let state = Mutex(State())

  init(subsystem: any Subsystem, layer: CommonLayer) {
    name = subsystem.name
    self.subsystem = subsystem
    self.layer = layer
  }

  /// Opens a way to a volume for one thread: that of the port's first use.
  ///
  /// - Parameters:
  ///   - depth: the most requests in flight; 1 to 32768.
  ///   - handler: told what ends; not kept alive by the port, and must outlive its closing.
  /// - Throws: `.readOnlyVolume`, `.noSuchVolume` after the volume was removed, `.notRegistered`,
  ///   `.store`.
  public func openPort(
    on volume: Volume, access: VolumeAccess, depth: Int, handler: any VolumePortHandler
  ) throws(CommonLayerError) -> VolumePort {
    if access == .readWrite, volume.access == .readOnly {
      throw .readOnlyVolume(name: volume.name)
    }
    guard layer.portWillOpen(on: volume) else {
      throw .noSuchVolume(name: volume.name, available: layer.volumes.map(\.name))
    }
    do throws(CommonLayerError) {
      let queue: any StoreQueue
      do throws(StoreError) {
        queue = try volume.store.makeQueue(depth: depth)
      } catch {
        throw CommonLayerError.store(error)
      }
      let port = VolumePort(
        volume: volume, access: access, queue: queue, handler: handler, registration: self)
      let isOpen = state.withLock { state in
        if state.isOpen { state.ports[ObjectIdentifier(port)] = port }
        return state.isOpen
      }
      guard isOpen else { throw CommonLayerError.notRegistered(name: name) }
      return port
    } catch {
      layer.portDidClose(on: volume)
      throw error
    }
  }

  /// Closes every port and leaves the common layer. Ports accept nothing more at once; what they
  /// had accepted ends and is reported as usual; when this returns, nothing of this subsystem is
  /// called any more. A second call returns at once.
  ///
  /// Ports of other threads close in those threads' next polls, which this waits for: their
  /// threads must go on polling (see `Subsystem.portNeedsPoll`). Must not be called from inside
  /// a completion handler.
  public func deregister() {
    let ports = state.withLock { state -> [VolumePort] in
      state.isOpen = false
      return Array(state.ports.values)
    }
    for port in ports { port.beginClosing() }
    for port in ports { port.close() }
    layer.forget(self)
  }

  func portDidClose(_ port: VolumePort) {
    let wasOpen = state.withLock { $0.ports.removeValue(forKey: ObjectIdentifier(port)) != nil }
    if wasOpen { layer.portDidClose(on: port.volume) }
  }
}
