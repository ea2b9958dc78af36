import ArgumentParser
import FabricCommandLine
import FabricHostDriver
import FabricIOProtocol
import FabricRDMA
import FabricStorage

struct Discover: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the volumes of a unit, or this machine's RDMA devices.",
    discussion: """
      Examples: iohost discover fabric+shm:///run/user/1000/unit.sock
                iohost discover --fabrics
      """)

  @Argument(
    help: """
      The unit: fabric+shm:///PATH, fabric+tcp://HOST:PORT or fabric+rdma://HOST:PORT, or shorter \
      shm:PATH, tcp:HOST:PORT or rdma:HOST:PORT.
      """)
  var url: String?
  @Flag(
    name: .long,
    help: """
      Instead: the RDMA devices of this machine with their ports, names and limits, and whether \
      they can be used, or why not and what to do.
      """)
  var fabrics = false
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    guard (url == nil) == fabrics else {
      throw ValidationError(
        "expected the URL of a unit or --fabrics, got \(fabrics ? "both" : "neither")")
    }
  }

  func run() async {
    await reporting {
      guard let url else {
        let report = RDMAReport(survey: .take())
        if json { return Output.line(report.json.description) }
        return report.lines.forEach { Output.line($0) }
      }
      let address = try connection.unitAddress(url)
      let listing = try await connection.listing(of: address)
      if json { return Output.line(describe(listing, at: address).description) }
      Output.line("unit \(listing.unitName)")
      for volume in listing.volumes {
        let url = VolumeAddress(unit: address.unit, volumeName: volume.name)
        let size = ByteSize.describe(volume.blockCount * UInt64(volume.blockByteCount))
        let rights = volume.access == .readOnly ? ", read-only" : ""
        Output.line("\(url)  \(size) in blocks of \(volume.blockByteCount)\(rights)")
      }
      if listing.volumes.isEmpty { Output.line("no volumes") }
      for entry in listing.addresses where entry.address != address.unit {
        let state = entry.state == .optimised ? "" : ", \(entry.state)"
        Output.line("also at \(VolumeAddress(unit: entry.address, volumeName: ""))\(state)")
      }
    }
  }

  private func describe(_ listing: VolumeDiscovery.Listing, at address: VolumeAddress) -> JSON {
    .object([
      ("unit", .text(listing.unitName)),
      (
        "addresses",
        .list(
          listing.addresses.map { entry in
            .object([
              ("url", .text("\(VolumeAddress(unit: entry.address, volumeName: ""))")),
              ("state", .text(entry.state.description)),
            ])
          })
      ),
      (
        "volumes",
        .list(
          listing.volumes.map { volume in
            let url = VolumeAddress(unit: address.unit, volumeName: volume.name)
            return .object([
              ("name", .text(volume.name)), ("url", .text("\(url)")),
              ("identifier", .text("\(volume.identifier)")),
              ("blockByteCount", .whole(UInt64(volume.blockByteCount))),
              ("blockCount", .whole(volume.blockCount)),
              ("readOnly", .flag(volume.access == .readOnly)),
            ])
          })
      ),
    ])
  }
}

struct Info: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a volume is.",
    discussion: "Example: iohost info fabric+shm:///run/user/1000/unit.sock/disk")

  @Argument(help: "The volume.") var url: String
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var connection: ConnectionOptions

  func run() async {
    await reporting {
      let volume = try await connection.attach(url, access: .readOnly)
      let info = volume.info
      await volume.close()
      let entry = try await connection.listing(of: info.address).volumes
        .first { $0.identifier == info.identifier }
      let isReadOnly = entry?.access == .readOnly
      if json {
        return Output.line(
          JSON.object([
            ("url", .text("\(info.address)")), ("unit", .text(info.unitName)),
            ("identifier", .text("\(info.identifier)")),
            ("blockByteCount", .whole(UInt64(info.blockByteCount))),
            ("blockCount", .whole(info.blockCount)), ("byteCount", .whole(info.byteCount)),
            ("maximumTransferByteCount", .whole(UInt64(info.maximumTransferByteCount))),
            ("depth", .whole(UInt64(info.depth))), ("readOnly", .flag(isReadOnly)),
          ]).description)
      }
      Output.line("volume     \(info.address)")
      Output.line("unit       \(info.unitName)")
      Output.line("identity   \(info.identifier)")
      Output.line(
        "size       \(ByteSize.describe(info.byteCount)): \(info.blockCount) blocks of "
          + "\(info.blockByteCount) bytes")
      Output.line("access     \(isReadOnly ? "read-only" : "may be read and written")")
      Output.line(
        "a request  at most \(ByteSize.describe(UInt64(info.maximumTransferByteCount))), "
          + "\(info.depth) in flight")
    }
  }
}
