import CFuzzer
import Foundation

/// Feeds what libFuzzer comes up with to the target that `FUZZ_TARGET` names; the arguments are
/// libFuzzer's. `Tests/fuzz.sh` builds and runs it.
///
/// A target ends when the code under test traps, when the address sanitizer sees it read or write
/// where it must not, and when one of the target's own checks fails.
@main
struct Fuzz {
  static let targets: [String: @Sendable (FuzzInput) -> Void] = [
    "start-up": fuzzStartUp,
    "fpdu": fuzzFPDUs,
    "stream": fuzzStream,
    "messages": fuzzMessages,
    "channel": fuzzChannel,
    "capsules": fuzzCapsules,
    "tcp": fuzzTCP,
    "nbd-options": fuzzNBDOptions,
    "nbd-requests": fuzzNBDRequests,
    "nvme": fuzzNVMe,
    "i2o": fuzzI2O,
    "i2o-unit": fuzzI2OUnit,
    "nvme-rdma": fuzzNVMeRDMA,
    "nic": fuzzNIC,
    "vhost-messages": fuzzVhostMessages,
    "vhost-queue": fuzzVhostQueue,
  ]

  static let target: @Sendable (FuzzInput) -> Void = {
    let name = ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? ""
    guard let target = targets[name] else {
      let names = targets.keys.sorted().joined(separator: ", ")
      print("error: expected FUZZ_TARGET to be one of \(names), got '\(name)'")
      exit(64)
    }
    return target
  }()

  static func main() {
    if CommandLine.arguments.contains("--list") {
      return print(targets.keys.sorted().joined(separator: "\n"))
    }
    _ = target
    var count = CommandLine.argc
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? =
      unsafe CommandLine.unsafeArgv
    let status = unsafe LLVMFuzzerRunDriver(&count, &arguments) { bytes, count in
      Fuzz.target(FuzzInput(unsafe Array(UnsafeBufferPointer(start: bytes, count: count))))
      return 0
    }
    exit(status)
  }
}
