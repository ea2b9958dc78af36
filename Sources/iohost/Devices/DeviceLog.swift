import CFabricLinux
import FabricCommandLine
import FabricPlatform

/// The log of a device's process: its standard error, with the time of each line.
enum DeviceLog {
  static func line(_ text: String) {
    var now = time(nil)
    var parts = unsafe tm()
    unsafe gmtime_r(&now, &parts)
    var buffer = [CChar](repeating: 0, count: 32)
    let count = unsafe strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    let stamp = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    Output.error("\(stamp) \(text)")
  }
}

/// Which process this is.
enum ProcessIdentifier {
  static var own: Int32 { getpid() }

  /// Whether a signal such as SIGSTOP keeps it from running.
  static func isStopped(_ process: Int32) -> Bool {
    // Behind the name, which may have anything in it.
    KernelFile.text("/proc/\(process)/stat")?.split(separator: ")").last?.hasPrefix(" T") == true
  }
}
