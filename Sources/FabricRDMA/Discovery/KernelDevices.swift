import CFabricVerbs
import FabricPlatform
import Glibc

/// What the kernel tells of RDMA devices in files.
enum KernelDevices {
  /// Those that it has, whether programs can reach them or not.
  static func names() -> [String] { lastNames("/sys/class/infiniband/*") }

  /// The file under `/dev/infiniband` of a device.
  static func verbsFile(of device: String) -> String? {
    lastNames("/sys/class/infiniband_verbs/uverbs*").first {
      text("/sys/class/infiniband_verbs/\($0)/ibdev") == device
    }
  }

  /// The node of a card, or of the one that a device of software stands on; nil where the kernel says that there
  /// is none.
  static func numaNode(of device: String) -> Int? {
    if let node = numaNode(above: "/sys/class/infiniband/\(device)/device") { return node }
    let card = text("/sys/class/infiniband/\(device)/parent") ?? interface(of: device, port: 1)
    return card.flatMap { numaNode(above: "/sys/class/net/\($0)/device") }
  }

  /// Cards' files tell it, those of what hangs on them do not.
  private static func numaNode(above path: String) -> Int? {
    var place = unsafe realpath(path, nil).map { found in
      defer { unsafe free(found) }
      return unsafe String(cString: found)
    }
    while let current = place, current.hasPrefix("/sys/devices/") {
      if let node = text("\(current)/numa_node").flatMap(Int.init) { return node < 0 ? nil : node }
      place = current.lastIndex(of: "/").map { String(current[..<$0]) }
    }
    return nil
  }

  /// The network interface that a port stands on.
  static func interface(of device: String, port: Int) -> String? {
    text("/sys/class/infiniband/\(device)/ports/\(port)/gid_attrs/ndevs/0")
  }

  /// The first line of a file; nil when there is none, or it is empty.
  static func text(_ path: String) -> String? {
    KernelFile.text(path)?.split(whereSeparator: \.isNewline).first.map(String.init)
  }

  static func exist(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  /// The last parts of all paths that fit.
  private static func lastNames(_ pattern: String) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
    var names: [String] = []
    for index in unsafe 0..<Int(found.gl_pathc) {
      guard let path = unsafe found.gl_pathv[index] else { continue }
      let words = unsafe String(cString: path)
      names.append(String(words.split(separator: "/").last ?? ""))
    }
    return names
  }
}
