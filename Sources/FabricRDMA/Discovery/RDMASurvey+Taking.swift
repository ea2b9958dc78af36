import CFabricVerbs
import FabricPlatform
import Glibc

extension RDMASurvey {
  /// Looks at this machine: opens each device, asks it, and closes it. Takes milliseconds for each. Any
  /// thread may call it. What cannot be found out is told as such; nothing is thrown.
  public static func take() -> RDMASurvey {
    var survey = RDMASurvey()
    survey.kernelDeviceNames = KernelDevices.names()
    survey.hasVerbsModule = KernelDevices.exist("/sys/class/infiniband_verbs/abi_version")
    survey.connectionManager = access(to: "/dev/infiniband/rdma_cm")
    survey.lockByteLimit = LockedMemory.now().limit

    var count: CInt = 0
    guard let list = unsafe fabric_verbs_devices(&count) else {
      survey.libraryFailure = Errno.current
      return survey
    }
    defer { unsafe ibv_free_device_list(list) }
    let addresses = IPWords.ofInterfaces()
    for index in 0..<Int(count) {
      guard let device = unsafe list[index] else { continue }
      survey.devices.append(unsafe describe(device, addresses))
    }
    return survey
  }

  /// The library tries another way when a file may not be opened, and tells of that one's failure.
  static func failure(toOpen path: String, _ error: Errno) -> Errno {
    switch access(to: path) {
    case .allowed: error
    case .denied: .permissionDenied
    case .missing: .noSuchFileOrDirectory
    }
  }

  private static func access(to path: String) -> FileAccess {
    if unsafe Glibc.access(path, R_OK | W_OK) == 0 { return .allowed }
    return Errno.current == .noSuchFileOrDirectory ? .missing : .denied
  }

  private static func describe(
    _ device: UnsafeMutablePointer<ibv_device>, _ addresses: [String: [String]]
  ) -> RDMADevice {
    let name = unsafe String(cString: ibv_get_device_name(device))
    var result = unsafe RDMADevice(
      name: name, transport: RDMADevice.Transport(device.pointee.transport_type),
      fileName: KernelDevices.verbsFile(of: name) ?? "uverbs0",
      numaNode: KernelDevices.numaNode(of: name))
    guard let context = unsafe ibv_open_device(device) else {
      result.failure = failure(toOpen: "/dev/infiniband/\(result.fileName)", Errno.current)
      return result
    }
    defer { unsafe ibv_close_device(context) }
    var attributes = ibv_device_attr()
    let status = unsafe ibv_query_device(context, &attributes)
    guard status == 0 else {
      result.failure = Errno(rawValue: status)
      return result
    }
    result.limits = RDMALimits(attributes)
    result.firmware = KernelDevices.text("/sys/class/infiniband/\(name)/fw_ver") ?? ""
    guard attributes.phys_port_cnt > 0 else { return result }
    for number in 1...attributes.phys_port_cnt {
      var port = ibv_port_attr()
      guard unsafe fabric_verbs_query_port(context, number, &port) == 0 else { continue }
      result.ports.append(RDMAPort(number: Int(number), of: name, port))
    }
    unsafe addGIDs(of: context, to: &result)
    for index in result.ports.indices {
      let interface = result.ports[index].gids.compactMap(\.interface).first
      if let interface { result.ports[index].interface = interface }
      result.ports[index].addresses =
        result.ports[index].interface.flatMap { addresses[$0] } ?? []
    }
    return result
  }

  /// Reads all of the device's table at once; entries that nobody has filled are not in it.
  private static func addGIDs(
    of context: UnsafeMutablePointer<ibv_context>, to device: inout RDMADevice
  ) {
    let capacity = device.ports.count * 1024
    let count = unsafe withUnsafeTemporaryAllocation(of: ibv_gid_entry.self, capacity: capacity) {
      entries in
      unsafe entries.initialize(repeating: ibv_gid_entry())
      let count = unsafe fabric_verbs_gids(context, entries.baseAddress!, capacity)
      for index in 0..<max(0, Int(count)) {
        let entry = unsafe entries[index]
        guard let port = device.ports.firstIndex(where: { $0.number == Int(entry.port_num) })
        else { continue }
        device.ports[port].gids.append(RDMAGID(entry, of: device.transport))
      }
      return count
    }
    // A table that is larger than ours, or cannot be read: the ports are shown without names.
    if count < 0 { device.failure = Errno(rawValue: CInt(-count)) }
  }
}
