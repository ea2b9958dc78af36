import FabricCommandLine
import FabricHostDevices
import FabricHostDriver
import FabricPlatform
import FabricStorage
import Synchronization

/// What commands ask of a device's process.
extension DeviceDaemon {
  /// Answers what a client asks, or forgets one that has gone.
  func serve(_ client: SequencedSocket) {
    guard let request = ControlPacket.receive(ControlRequest.self, on: client) else {
      clients.removeAll { $0 === client }
      if detacher === client { detacher = nil }
      return
    }
    switch request.request {
    case "status": answer(client, ControlAnswer(status()))
    case "paths": answerPaths(client, request)
    case "control": control(client, request)
    case "detach": detach(force: request.force ?? false, for: client)
    default:
      answer(
        client,
        ControlAnswer(
          ToolFailure(
            64,
            "expected status, paths, control or detach, got \(request.request); is this iohost of another "
              + "release than the one that attached the device?")))
    }
  }

  func answer(_ client: SequencedSocket?, _ answer: ControlAnswer) {
    try? client?.send(ControlPacket.encode(answer))
  }

  func status() -> DeviceStatus {
    var figures = DeviceStatus.Figures(volume.figures)
    figures.reconnects = lossCount
    let told: (String, String?) =
      switch (phase, state) {
      case (.detaching, _): ("detaching", nil)
      case (.attached, _) where device?.isBound == false:
        ("failed", "the device was taken away by others, as losetup -d does; detach it")
      case (_, .failed(let error)): ("failed", error.description)
      case (.attached, _) where volume.isRefusing: ("failing", words.reason)
      case (.making, .attached): ("connecting", whyNoDevice)
      case (_, .attached): ("attached", nil)
      default: ("connecting", words.reason)
      }
    return DeviceStatus(
      name: entry.name, device: device?.path, kind: settings.end.name,
      url: "\(settings.address)", byteCount: info?.byteCount ?? 0,
      blockByteCount: info?.blockByteCount ?? 0,
      isReadOnly: settings.options.access == .readOnly, state: told.0, reason: told.1,
      processIdentifier: ProcessIdentifier.own,
      guardProcessIdentifier: descendant?.processIdentifier, log: entry.log,
      file: file,
      figures: figures, paths: volume.paths.map { DevicePaths.Path($0) })
  }

  /// The device's file in FUSE, where it has one.
  private var file: String? {
    device == nil ? nil : volume.fileName.map { "\(entry.mountPoint)/\($0)" }
  }

  // MARK: Detaching

  /// Flushes and then detaches, unless somebody uses the device; with `force` at once and anyway.
  ///
  /// - Parameter client: who is told how it went; nil: the log is. (HD-33)
  func detach(force: Bool, for client: SequencedSocket?) {
    guard let device, !force else {
      answer(detacher, ControlAnswer(ToolFailure(74, "the device was detached with --force")))
      detacher = client
      return end(.success(()))
    }
    guard phase == .attached else {
      return refuse(
        client, ToolFailure(74, "\(device.path) is being detached; wait, or use --force"))
    }
    var users = DeviceUsers.find(device.path)
    if let file {
      users += DeviceUsers.processes(holding: file, but: descendant?.processIdentifier)
        .map { "\(file) \($0)" }
    }
    guard users.isEmpty else {
      return refuse(client, ToolFailure(HostDeviceError.inUse(device: device.path, by: users)))
    }
    guard case .attached = state else {
      return refuse(
        client,
        ToolFailure(
          74,
          "expected a connection to \(settings.address), to flush \(device.path) over, but "
            + "there is none; have the unit served, or use --force and lose what was not flushed"))
    }
    phase = .detaching
    detacher = client
    // It may take long: meanwhile others are answered.
    let inbox = inbox
    do throws(Errno) {
      _ = try SystemThread.start(name: "flush") {
        do throws(HostDeviceError) {
          try device.flush()
          inbox.put(.flushed(nil))
        } catch { inbox.put(.flushed(error)) }
      }
    } catch { flushed(.system(error, doing: "expected to start a thread")) }
  }

  func flushed(_ error: HostDeviceError?) {
    guard phase == .detaching, let device else { return }
    do throws(HostDeviceError) {
      if let error { throw error }
      try device.release()
      end(.success(()))
    } catch {
      phase = .attached
      let client = detacher
      detacher = nil
      refuse(client, ToolFailure(error))
    }
  }

  private func refuse(_ client: SequencedSocket?, _ failure: ToolFailure) {
    log("is not detached: \(failure.words)")
    answer(client, ControlAnswer(failure))
  }
}

extension ToolFailure {
  init(_ error: HostDeviceError) {
    let code: Int32 =
      switch error {
      case .missing, .system: 71
      case .inUse: 74
      }
    self.init(code, error.description)
  }
}
