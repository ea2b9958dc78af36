import FabricCommandLine
import FabricRDMA

/// What `discover --fabrics` and `doctor` say of RDMA devices.
struct RDMAReport {
  let survey: RDMASurvey

  /// One line for each device, port and GID, and for what stands in the way.
  var lines: [String] {
    var lines: [String] = []
    for device in survey.devices {
      lines.append(line(of: device))
      for port in device.ports {
        lines.append("  \(line(of: port, device))")
        for gid in port.gids {
          let interface = gid.interface.map { ", \($0)" } ?? ""
          lines.append("    GID \(gid.index)  \(words(of: gid)), \(gid.kind.rawValue)\(interface)")
        }
      }
    }
    // Beside devices that can be reached, those that cannot are no problem of all.
    let others = survey.devices.isEmpty ? [] : survey.unreached
    return lines + (others + survey.problems).map { "cannot be used: \($0)" }
  }

  private func line(of device: RDMADevice) -> String {
    var words = "\(device.name)  \(device.transport.rawValue)"
    if let limits = device.limits {
      words +=
        ", at most \(limits.queuePairCount) queue pairs of \(limits.requestCount) requests, "
        + "\(limits.completionCount) completions in a queue, \(limits.memoryRegionCount) regions, "
        + "\(limits.elementCount) elements"
    }
    words += device.numaNode.map { ", NUMA node \($0)" } ?? ", no NUMA node"
    if let problem = device.problem { words += "; cannot be used: \(problem)" }
    return words
  }

  private func line(of port: RDMAPort, _ device: RDMADevice) -> String {
    var words =
      "port \(port.number)  \(port.state.rawValue), "
      + port.protocolName(of: device.transport)
    if let interface = port.interface { words += " over \(interface)" }
    if !port.addresses.isEmpty { words += " (\(port.addresses.joined(separator: ", ")))" }
    words += ", packets of \(port.packetByteCount) bytes; "
    guard let problem = port.problem(of: device.transport) else {
      return words + (survey.problems.isEmpty ? "can be used" : "could be used")
    }
    return words + "cannot be used: \(problem)"
  }

  private func words(of gid: RDMAGID) -> String { gid.isUnset ? "unset" : gid.description }

  // MARK: JSON

  var json: JSON {
    .object([
      ("usable", .flag(survey.isUsable)),
      ("problems", .list(survey.problems.map { .text($0.description) })),
      ("unreached", .list(survey.unreached.map { .text($0.description) })),
      ("lockByteLimit", survey.lockByteLimit.map { .whole($0) } ?? .null),
      ("devices", .list(survey.devices.map(json(of:)))),
    ])
  }

  private func json(of device: RDMADevice) -> JSON {
    .object([
      ("name", .text(device.name)), ("transport", .text(device.transport.rawValue)),
      ("numaNode", device.numaNode.map { .whole(UInt64($0)) } ?? .null),
      ("firmware", .text(device.firmware)),
      ("problem", device.problem.map { .text($0.description) } ?? .null),
      ("limits", device.limits.map(json(of:)) ?? .null),
      ("ports", .list(device.ports.map { json(of: $0, device) })),
    ])
  }

  private func json(of limits: RDMALimits) -> JSON {
    .object([
      ("queuePairCount", .whole(UInt64(limits.queuePairCount))),
      ("requestCount", .whole(UInt64(limits.requestCount))),
      ("completionQueueCount", .whole(UInt64(limits.completionQueueCount))),
      ("completionCount", .whole(UInt64(limits.completionCount))),
      ("memoryRegionCount", .whole(UInt64(limits.memoryRegionCount))),
      ("memoryRegionByteCount", .whole(limits.memoryRegionByteCount)),
      ("elementCount", .whole(UInt64(limits.elementCount))),
      ("sharedReceiveQueueCount", .whole(UInt64(limits.sharedReceiveQueueCount))),
      ("sharedReceiveRequestCount", .whole(UInt64(limits.sharedReceiveRequestCount))),
      ("readCount", .whole(UInt64(limits.readCount))),
    ])
  }

  private func json(of port: RDMAPort, _ device: RDMADevice) -> JSON {
    let problem = port.problem(of: device.transport)
    return .object([
      ("number", .whole(UInt64(port.number))), ("state", .text(port.state.rawValue)),
      ("linkLayer", .text(port.linkLayer.rawValue)),
      ("protocol", .text(port.protocolName(of: device.transport))),
      ("interface", port.interface.map { .text($0) } ?? .null),
      ("addresses", .list(port.addresses.map { .text($0) })),
      ("packetByteCount", .whole(UInt64(port.packetByteCount))),
      ("messageByteCount", .whole(port.messageByteCount)),
      ("problem", problem.map { .text($0.description) } ?? .null),
      (
        "gids",
        .list(
          port.gids.map { gid in
            .object([
              ("index", .whole(UInt64(gid.index))), ("kind", .text(gid.kind.rawValue)),
              ("words", .text(gid.description)),
              ("interface", gid.interface.map { .text($0) } ?? .null),
            ])
          })
      ),
    ])
  }

  // MARK: Doctor

  /// The device ports that can be used, or why none can and what to do.
  var findings: [Doctor.Finding] {
    let usable = survey.devices.flatMap { device in
      device.ports.filter { device.problem == nil && $0.problem(of: device.transport) == nil }
        .map { "\(device.name) port \($0.number) (\($0.protocolName(of: device.transport)))" }
    }
    if survey.isUsable {
      return [Doctor.Finding("rdma", .fine, "\(usable.joined(separator: ", ")) can be used")]
    }
    var findings = survey.problems.map { Doctor.Finding("rdma", .note, $0.description) }
    guard usable.isEmpty else { return findings }
    for device in survey.devices {
      let name = "rdma \(device.name)"
      if let problem = device.problem {
        findings.append(Doctor.Finding(name, .note, problem.description))
      }
      for port in device.ports {
        guard let problem = port.problem(of: device.transport) else { continue }
        findings.append(Doctor.Finding("\(name)/\(port.number)", .note, problem.description))
      }
    }
    return findings
  }
}
