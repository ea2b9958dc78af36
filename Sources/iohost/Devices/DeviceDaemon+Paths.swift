import FabricCommandLine
import FabricHostDevices
import FabricHostDriver
import FabricIOProtocol
import FabricPlatform

/// What commands ask of a device's paths, and of the unit by way of the device's process.
extension DeviceDaemon {
  /// Tells of the paths, and sets the policy first where one is named.
  func answerPaths(_ client: SequencedSocket, _ request: ControlRequest) {
    if let name = request.policy {
      guard let policy = PathPolicy(rawValue: name) else {
        let names = PathPolicy.allCases.map(\.rawValue).joined(separator: ", ")
        return answer(
          client, ControlAnswer(ToolFailure(64, "expected a policy (\(names)), got \(name)")))
      }
      volume.choose(policy)
      log("the policy is \(name) now")
    }
    answer(
      client,
      ControlAnswer(
        DevicePaths(
          policy: (volume.policy ?? settings.options.policy).rawValue,
          paths: volume.paths.map { DevicePaths.Path($0) })))
  }

  /// Passes a control call on to the unit; the answer comes when the unit has given it.
  func control(_ client: SequencedSocket, _ request: ControlRequest) {
    let payload = request.payload ?? []
    guard let code = request.call, payload.count <= ControlCall.maximumPayloadByteCount else {
      return answer(
        client,
        ControlAnswer(
          ToolFailure(
            64, "expected a call with at most \(ControlCall.maximumPayloadByteCount) bytes")))
    }
    let pathCount = settings.addresses.count
    if let path = request.path, !(0..<pathCount).contains(path) {
      let paths = pathCount == 1 ? "the only path is 0" : "paths are 0 to \(pathCount - 1)"
      return answer(
        client,
        ControlAnswer(ToolFailure(64, "expected a path of \(entry.name), got \(path); \(paths)")))
    }
    callCount += 1
    let number = callCount
    callers[number] = client
    if let path = request.path { calledPaths[number] = path }
    volume.control(
      ControlCall(ControlCode(rawValue: code), payload: payload), by: request.path
    ) { [inbox] answer in inbox.put(.controlled(number, answer)) }
  }

  /// Why no path can be used; nil: one can.
  private var whyUnreachable: String? {
    let isUsable = volume.paths.contains {
      $0.state == .ready && $0.accessState != .inaccessible
    }
    return isUsable ? nil : whyNoDevice
  }

  func controlled(_ number: Int, _ answer: FabricIOProtocol.ControlAnswer) {
    guard let client = callers.removeValue(forKey: number) else { return }
    let paths = volume.paths
    let path = calledPaths.removeValue(forKey: number)
      .flatMap { $0 < paths.count ? paths[$0] : nil }
    let trouble = path.map { $0.state == .ready ? nil : $0.reason } ?? whyUnreachable
    if answer.errno != 0, let trouble {
      // It never came to the unit.
      return self.answer(
        client,
        ControlAnswer(
          ToolFailure(
            74,
            "expected \(path.map { "\($0.address)" } ?? "a path") to be connected, but \(trouble)"))
      )
    }
    self.answer(
      client,
      ControlAnswer(
        ControlResult(errno: answer.errno, result: answer.result, payload: answer.payload)))
  }
}

/// What the unit answered to a control call.
struct ControlResult: Codable, Sendable {
  var errno: Int32
  var result: Int32
  var payload: [UInt8]
}
