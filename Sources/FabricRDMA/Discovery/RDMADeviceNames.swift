import CFabricVerbs
public import FabricPlatform

/// The RDMA devices that this process finds, by name.
public enum RDMADeviceNames {
  /// In the library's order. Any thread may ask.
  ///
  /// - Throws: when the kernel has no RDMA at all, "Function not implemented".
  public static func all() throws(Errno) -> [String] {
    var count: CInt = 0
    guard let list = unsafe fabric_verbs_devices(&count) else { throw Errno.current }
    defer { unsafe ibv_free_device_list(list) }
    var names: [String] = []
    for index in 0..<Int(count) {
      guard let name = unsafe ibv_get_device_name(list[index]) else { continue }
      names.append(unsafe String(cString: name))
    }
    return names
  }
}
