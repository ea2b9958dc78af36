import FabricStorage
import Synchronization

/// Which volume has which number, and how often that has changed. A volume keeps its number as long as
/// it is served. (IT-22, IT-23)
///
/// Threads: any.
final class DeviceNumbers: Subsystem {
  struct Device: Sendable {
    let number: UInt16
    let volume: Volume
    /// The table's indicator when this entry last changed.
    var changeIndicator: UInt32
  }

  private struct State {
    var devices: [Device] = []
    /// Never 0, which stands for a host that knows nothing.
    var changeIndicator: UInt32 = 1
    var nextNumber = I2O.firstDeviceTID
    var changed: (@Sendable () -> Void)?
  }

  let name: String
  private let state = Mutex(State())

  /// - Parameter name: unique in the common layer.
  init(name: String) { self.name = name }

  /// Takes in the volumes that there are, in the order of their names, and tells of changes from now on.
  func begin(with volumes: [Volume], changed: @escaping @Sendable () -> Void) {
    state.withLock { state in
      for volume in volumes { Self.add(volume, to: &state) }
      state.changed = changed
    }
  }

  func end() { state.withLock { $0.changed = nil } }

  var changeIndicator: UInt32 { state.withLock { $0.changeIndicator } }

  /// In the order of their numbers.
  var devices: [Device] { state.withLock { $0.devices } }

  func volume(_ number: UInt16) -> Volume? {
    state.withLock { $0.devices.first { $0.number == number }?.volume }
  }

  // MARK: Changes

  func volumeAdded(_ volume: Volume) {
    change { state in
      state.changeIndicator = Self.next(state.changeIndicator)
      Self.add(volume, to: &state)
    }
  }

  func volumeGrown(_ volume: Volume) {
    change { state in
      state.changeIndicator = Self.next(state.changeIndicator)
      guard let index = state.devices.firstIndex(where: { $0.volume === volume }) else { return }
      state.devices[index].changeIndicator = state.changeIndicator
    }
  }

  func volumeRemoved(_ volume: Volume) {
    change { state in
      state.changeIndicator = Self.next(state.changeIndicator)
      state.devices.removeAll { $0.volume === volume }
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let changed = state.withLock { state in
      body(&state)
      return state.changed
    }
    changed?()
  }

  private static func next(_ indicator: UInt32) -> UInt32 { indicator == .max ? 1 : indicator + 1 }

  private static func add(_ volume: Volume, to state: inout State) {
    guard !state.devices.contains(where: { $0.volume === volume }),
      state.devices.count < DeviceTable.maximumCount,
      let number = freeNumber(&state)
    else { return }
    state.devices.append(
      Device(number: number, volume: volume, changeIndicator: state.changeIndicator))
    state.devices.sort { $0.number < $1.number }
  }

  /// The next number that no device has: one that went is used again last.
  private static func freeNumber(_ state: inout State) -> UInt16? {
    let taken = Set(state.devices.map(\.number))
    for _ in I2O.firstDeviceTID...I2O.lastDeviceTID {
      let number = state.nextNumber
      state.nextNumber = number == I2O.lastDeviceTID ? I2O.firstDeviceTID : number + 1
      if !taken.contains(number) { return number }
    }
    return nil
  }
}
