import FabricCommandLine
import FabricNVMe
import FabricPlatform
import FabricVerbs

/// What is wrong with the arguments, in words.
extension Serve {
  /// What is wrong with the arguments whatever the machine is like.
  func checkArguments(_ addresses: [FabricAddress]) throws(ToolFailure) {
    guard !listen.isEmpty || !i2o.isEmpty || !nbd.isEmpty || servesNVMe else {
      throw ToolFailure(
        64,
        "expected --listen \(Self.listenSynopsis), --nbd \(Self.nbdSynopsis), --nvme-tcp "
          + "\(Self.nvmeSynopsis), --nvme-rdma \(Self.nvmeRDMASynopsis) or --i2o \(Self.listenSynopsis); add one"
      )
    }
    if let fault = QualifiedName.fault(in: nqn) { throw ToolFailure(64, "--nqn: \(fault)") }
    guard nqn != QualifiedName.discovery else {
      throw ToolFailure(
        64, "--nqn: expected a name of this unit's own, got that of every discovery subsystem")
    }
    guard keys == nil || servesHosts else {
      throw ToolFailure(
        64,
        "expected --listen or --i2o with --keys: NBD clients and NVMe hosts prove none; leave it out"
      )
    }
    guard !volume.isEmpty || !nic.isEmpty else {
      throw ToolFailure(
        64, "expected at least one volume, or NIC; add --volume NAME=PATH,size=1GiB")
    }
    guard (1...64).contains(name.utf8.count) else {
      throw ToolFailure(64, "expected --name of 1 to 64 bytes, got \(name.utf8.count)")
    }
    guard (1...1024).contains(depth) else {
      throw ToolFailure(64, "expected --depth of 1 to 1024, got \(depth)")
    }
    guard (2...256).contains(buffers) else {
      throw ToolFailure(64, "expected --buffers of 2 to 256, got \(buffers)")
    }
    guard !direct || addresses.contains(where: { $0.fabric == "shm" }) else {
      throw ToolFailure(
        64,
        "expected --listen or --i2o shm:PATH with --direct, which is for shared memory alone; leave it out"
      )
    }
    for argument in volume { try argument.check() }
    try checkTwice()
    try checkNICs()
  }

  /// No two volumes may have one name, or lie in one file.
  private func checkTwice() throws(ToolFailure) {
    for (index, one) in volume.enumerated() {
      for other in volume[..<index] {
        if one.name == other.name {
          throw ToolFailure(
            64, "expected a name for each --volume, \"\(one.name)\" is taken; give another name")
        }
        if !one.isMemory, !other.isMemory, FileKind.areSame(one.path, other.path) {
          throw ToolFailure(
            64,
            "expected a file for each --volume, \"\(other.name)\" and \"\(one.name)\" both name "
              + "\(one.path); leave one out")
        }
      }
    }
  }
}
