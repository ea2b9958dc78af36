/// Where the chance in waits comes from: the system, or in tests a seed.
struct WaitChance: RandomNumberGenerator {
  private var source: any RandomNumberGenerator

  init(_ source: any RandomNumberGenerator) { self.source = source }

  mutating func next() -> UInt64 { source.next() }
}
