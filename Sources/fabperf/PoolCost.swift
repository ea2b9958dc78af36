import ArgumentParser
import FabricMessaging
import FabricPlatform
import FabricSharedMemory

struct PoolCost: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pool", abstract: "Cost of taking and giving back an element of a message pool.",
    discussion: "JSON: nanosecondsPerPair, floorNanosecondsPerPair (two bare mutex pairs), ratio.")

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func run() throws {
    let domain = try SharedMemoryAdapter().makeProtectionDomain()
    let pool = try MessagePool(in: domain, capacity: 256, elementByteCount: 4096)
    let count = 10_000_000
    let start = MonotonicTime.now
    for _ in 0..<count {
      guard let element = pool.take() else { throw Failure("the pool is empty") }
      pool.giveBack(element)
    }
    let nanoseconds = Double(MonotonicTime.now.nanoseconds(since: start)) / Double(count)
    try pool.close()
    var report = Report()
    // Taking and giving back lock once each.
    let floor = 2 * MutexContender().measure(threads: 1, hasUpdater: false)
    report.add("nanosecondsPerPair", nanoseconds)
    report.add("floorNanosecondsPerPair", floor)
    report.add("ratio", nanoseconds / floor)
    try report.print(json: json)
  }
}
