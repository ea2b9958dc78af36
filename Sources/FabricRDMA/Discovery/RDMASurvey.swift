public import FabricPlatform

/// What this machine and this process have of RDMA: facts, and what follows from them. `take()` finds
/// the facts; the rest looks at nothing else.
public struct RDMASurvey: Equatable, Sendable {
  /// What may be locked where RDMA is to be used: the memory of some channels.
  public static let neededLockByteCount: UInt64 = 64 << 20

  public enum FileAccess: Equatable, Sendable {
    case allowed, denied, missing
  }

  /// Those that the library can list.
  public var devices: [RDMADevice]
  /// Why it could not list any.
  public var libraryFailure: Errno?
  /// Those of the kernel, whether programs can reach them or not.
  public var kernelDeviceNames: [String]
  /// Whether the kernel shows devices to programs.
  public var hasVerbsModule: Bool
  /// `/dev/infiniband/rdma_cm`.
  public var connectionManager: FileAccess
  /// Bytes of memory that this process may lock; nil without a limit.
  public var lockByteLimit: UInt64?

  public init(
    devices: [RDMADevice] = [], libraryFailure: Errno? = nil, kernelDeviceNames: [String] = [],
    hasVerbsModule: Bool = true, connectionManager: FileAccess = .allowed,
    lockByteLimit: UInt64? = nil
  ) {
    self.devices = devices
    self.libraryFailure = libraryFailure
    self.kernelDeviceNames = kernelDeviceNames
    self.hasVerbsModule = hasVerbsModule
    self.connectionManager = connectionManager
    self.lockByteLimit = lockByteLimit
  }

  /// What keeps the library from devices that the kernel has, one for each.
  public var unreached: [RDMAProblem] {
    let listed = Set(devices.map(\.name))
    return kernelDeviceNames.filter { !listed.contains($0) }.map {
      hasVerbsModule ? .noDriver(device: $0) : .noVerbsModule(device: $0)
    }
  }

  /// What keeps this process from every device; empty where one might be used.
  public var problems: [RDMAProblem] {
    guard !devices.isEmpty || !kernelDeviceNames.isEmpty else {
      // Without RDMA in the kernel the library calls itself not implemented.
      if let libraryFailure, libraryFailure != .notImplemented { return [.library(libraryFailure)] }
      return [.noDevice]
    }
    // One device that can be reached is enough.
    var problems = devices.isEmpty ? unreached : []
    switch connectionManager {
    case .allowed: break
    case .denied: problems.append(.notPermitted(path: "/dev/infiniband/rdma_cm"))
    case .missing: problems.append(.noConnectionManager)
    }
    if let lockByteLimit, lockByteLimit < Self.neededLockByteCount {
      problems.append(.lockLimit(byteCount: lockByteLimit))
    }
    return problems
  }

  /// Whether a channel could begin at one of the ports.
  public var isUsable: Bool {
    problems.isEmpty
      && devices.contains { device in
        device.problem == nil
          && device.ports.contains { $0.problem(of: device.transport) == nil }
      }
  }
}

extension RDMADevice {
  /// What keeps this process from the device.
  public var problem: RDMAProblem? {
    let path = "/dev/infiniband/\(fileName)"
    return switch failure {
    case nil: nil
    case .permissionDenied, .notPermitted: .notPermitted(path: path)
    case .noSuchFileOrDirectory: .noDeviceFile(path: path)
    case .some(let error): .cannotOpen(device: name, error)
    }
  }
}

extension RDMAPort {
  /// What keeps channels from the port, the first thing to be mended.
  public func problem(of transport: RDMADevice.Transport) -> RDMAProblem? {
    switch state {
    case .active: break
    case .initializing, .armed:
      if linkLayer == .infiniBand { return .portNotSetUp }
      return .portDown(interface: interface, linkLayer)
    case .down, .unknown: return .portDown(interface: interface, linkLayer)
    }
    if transport == .iWARP { return addresses.isEmpty ? .noAddress(interface: interface) : nil }
    let names = gids.filter { !$0.isUnset }
    if names.isEmpty { return .noGID }
    if linkLayer == .infiniBand { return nil }
    let hasAddress = names.contains { $0.kind == .roceV2 && !$0.isLinkLocal }
    return hasAddress ? nil : .noAddress(interface: interface)
  }

  /// What goes over the link, in the words of the field.
  public func protocolName(of transport: RDMADevice.Transport) -> String {
    switch (transport, linkLayer) {
    case (.iWARP, _): "iWARP"
    case (_, .ethernet): gids.contains { $0.kind == .roceV2 } ? "RoCE v2" : "RoCE"
    case (_, _): "InfiniBand"
    }
  }
}
