import ArgumentParser
import CFabricLinux
import FabricCommandLine
import FabricHostDevices
import FabricPlatform
import FoundationEssentials
import Glibc

/// The process that outlives the one that serves a device: when that dies without a word, the device,
/// the mount and the entry go with it. (HD-31)
struct AttachGuard: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach-guard", abstract: "Cleans up after a device's process.",
    shouldDisplay: false)

  /// Sent by the process when it ends in order.
  static let dismissal: UInt8 = 0x64

  @Option var stateDir: String
  @Option var name: String
  @Option var process: Int32

  func run() throws {
    // Whoever ends all of this program's processes ends the other, and that one ends this.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
    let watched = fabric_pidfd_open(process)
    let directory = try StateDirectory(stateDir)
    let entry = StateEntry(directory: directory, name: name)
    // One that another of our kind started waits here until that has ended.
    let hold = entry.readRecord()?.arguments == nil ? nil : try entry.holdForRecovery()
    // A number that is another's by now is not that of our parent.
    if watched >= 0, getppid() == process {
      guard !waitForDismissal(watched, entry) else { return }
    }
    if hold != nil, let record = entry.readRecord(), try restart(record, in: directory) { return }
    _ = consume hold
    if let words = try directory.locked({ try entry.cleanUpIfDead() }) { Output.error(words) }
  }

  /// How often a process is started that dies in its turn before it serves the device.
  private static let attemptCount = 5

  /// Starts the process that died anew, which serves the device on. False when it cannot. (HD-65)
  private func restart(_ record: StateEntry.Record, in directory: StateDirectory) throws -> Bool {
    guard record.device != nil, let arguments = record.arguments else { return false }
    Output.error("process \(process), which served \(name), has died; another serves it on")
    if let place = record.directory { unsafe chdir(place) }
    for _ in 0..<Self.attemptCount {
      let worker = try Descendant.start(
        ["iohost", AttachWorker.configuration.commandName ?? ""] + arguments
          + ["--state-dir", directory.path, "--name", name, "--recover"])
      _ = ControlPacket.wait(on: worker.socket.descriptor.rawValue, seconds: nil)
      if let answer = ControlPacket.receive(ControlAnswer.self, on: worker.socket) {
        do {
          _ = try answer.get()
          return true
        } catch {
          Output.error("\(error)")
          worker.join()
          return false
        }
      }
      worker.join()
    }
    return false
  }

  /// Waits until the process has ended: with all its descriptors, so that nothing waits for it.
  ///
  /// - Returns: whether it said that there is nothing to do.
  private func waitForDismissal(_ watched: CInt, _ entry: StateEntry) -> Bool {
    var entries = [watched, Descendant.descriptor].map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    while true {
      guard unsafe fabric_poll(&entries, 2, Self.patience) >= 0 else { continue }
      if entries[1].revents != 0 {
        var byte: UInt8 = 0
        if unsafe read(Descendant.descriptor, &byte, 1) == 1, byte == Self.dismissal { return true }
        // Its socket is closed before it has ended.
        entries[1].fd = -1
      }
      if entries[0].revents != 0 { return false }
      // Killed, and not ended: a thread of it may hang in a request to the volume's file, which the process was to
      // answer and nobody ever will, and so keeps the kernel from closing its descriptors. Of that no event tells.
      if isLeaderDead { FileMount.abort(entry.mountPoint) }
    }
  }

  /// How often the process is looked at, in milliseconds.
  private static let patience: CInt = 1000

  /// Whether the process's first thread has ended, which only a kill does before the others.
  private var isLeaderDead: Bool {
    guard let data = FileManager.default.contents(atPath: "/proc/\(process)/stat") else {
      return true
    }
    // Behind the name, which ends with the last bracket.
    return String(decoding: data, as: UTF8.self).split(separator: ")").last?.hasPrefix(" Z") == true
  }
}
