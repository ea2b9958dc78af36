import FabricPlatform
import FabricVerbsContract
import TestSupport
import Testing

@Suite(.serialized, .enabled(if: Guest.hasSIW, Guest.comment))
struct TempLoopTests {
  @Test func loop() throws {
    let check = ContractSuite.checks.first {
      $0.name == "a refused write with immediate consumes no receive as a success"
    }!
    for n in 0..<4000 {
      let start = MonotonicTime.now
      do { _ = try check.run(MixedFixture(n % 2 == 0 ? .kernelServes : .kernelConnects)) } catch {
        print("LOOP \(n): \(error)")
      }
      let ms = MonotonicTime.now.nanoseconds(since: start) / 1_000_000
      if ms > 1000 { print("LOOP \(n) took \(ms) ms") }
      if n % 100 == 0 { print("LOOP at \(n) \(ms)") }
    }
  }
}
