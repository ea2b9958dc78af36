import FabricPlatform
import FabricTCP
import FabricVerbs
import Synchronization
import Testing

@Suite("Registration cache")
struct RegistrationCacheTests {
  private let domain = CountingDomain()

  private func cache(entries: Int = 1024, bytes: Int = 1 << 20) -> RegistrationCache {
    var limits = RegistrationCache.Limits()
    limits.entryCount = entries
    limits.byteCount = bytes
    return RegistrationCache(in: domain, limits: limits)
  }

  @Test("a range is registered once, and found again whole or in part")
  func hits() throws {
    let cache = cache()
    let first = try cache.use(address: 0x1000, byteCount: 0x1000)
    #expect(first.region.address == 0x1000 && first.region.byteCount == 0x1000)
    cache.giveBack(first)
    for (address, byteCount) in [(0x1000, 0x1000), (0x1001, 1), (0x1fff, 1), (0x1800, 0x800)] {
      let use = try cache.use(address: UInt64(address), byteCount: byteCount)
      #expect(use.region === first.region)
      #expect(
        use.element(at: UInt64(address), byteCount: byteCount).localKey == first.region.localKey)
      cache.giveBack(use)
    }
    #expect(domain.registrationCount == 1)
    #expect(cache.counts.hitCount == 4 && cache.counts.missCount == 1)
    // A byte before, a byte behind: not covered.
    for address in [0xfff, 0x1001] as [UInt64] {
      cache.giveBack(try cache.use(address: address, byteCount: 0x1000))
    }
    #expect(domain.registrationCount == 3)
    #expect(cache.counts.byteCount == 0x3000)
  }

  @Test("a long registration is found behind short ones that begin later")
  func overlapping() throws {
    let cache = cache()
    let long = try cache.use(address: 0x1000, byteCount: 0x4000)
    let middle = try cache.use(address: 0x4000, byteCount: 0x2000)
    let short = try cache.use(address: 0x4100, byteCount: 0x1f10)
    #expect(domain.registrationCount == 3)
    let found = try cache.use(address: 0x4800, byteCount: 0x800)
    #expect(domain.registrationCount == 3)
    let alone = try cache.use(address: 0x3000, byteCount: 0x2000)
    #expect(alone.region === long.region)
    for use in [long, middle, short, found, alone] { cache.giveBack(use) }
    #expect(cache.counts.usedEntryCount == 0)
  }

  @Test("the idle one that was used longest ago makes room, by count and by bytes")
  func leastRecentlyUsed() throws {
    let cache = cache(entries: 3, bytes: 0x8000)
    for address in [0x1000, 0x3000, 0x5000] as [UInt64] {
      cache.giveBack(try cache.use(address: address, byteCount: 0x1000))
    }
    cache.giveBack(try cache.use(address: 0x1000, byteCount: 0x1000))
    cache.giveBack(try cache.use(address: 0x7000, byteCount: 0x1000))
    #expect(Set(domain.registered.map(\.address)) == [0x1000, 0x5000, 0x7000])
    // Now by bytes: 7 pages fit beside one.
    cache.giveBack(try cache.use(address: 0x10000, byteCount: 0x7000))
    #expect(Set(domain.registered.map(\.address)) == [0x7000, 0x10000])
  }

  @Test("entries in use are never dropped; what goes beyond the bounds ends with its use")
  func bounds() throws {
    let cache = cache(entries: 2)
    let uses = try (1...2).map { try cache.use(address: UInt64($0 << 16), byteCount: 0x1000) }
    let beyond = try cache.use(address: 0x90000, byteCount: 0x1000)
    #expect(uses.allSatisfy { domain.isRegistered($0.region) })
    #expect(domain.isRegistered(beyond.region) && cache.counts.entryCount == 2)
    cache.giveBack(beyond)
    #expect(!domain.isRegistered(beyond.region))
    #expect(uses.allSatisfy { domain.isRegistered($0.region) })
    for use in uses { cache.giveBack(use) }
    #expect(domain.registered.count == 2)
    // Larger than all: nothing is dropped for it.
    let large = try cache.use(address: 0x100000, byteCount: 2 << 20)
    cache.giveBack(large)
    #expect(!domain.isRegistered(large.region) && domain.registered.count == 2)
  }

  @Test("an invalidated range is not found again; idle ones end at once, used ones when given back")
  func invalidation() throws {
    let cache = cache()
    let used = try cache.use(address: 0x1000, byteCount: 0x1000)
    let twice = try cache.use(address: 0x1000, byteCount: 0x1000)
    cache.giveBack(try cache.use(address: 0x2000, byteCount: 0x1000))
    cache.giveBack(try cache.use(address: 0x3000, byteCount: 0x1000))
    // From the last byte of the first to the first byte of the second.
    cache.invalidate(address: 0x1fff, byteCount: 2)
    #expect(Set(domain.registered.map(\.address)) == [0x1000, 0x3000])
    let anew = try cache.use(address: 0x1000, byteCount: 0x1000)
    #expect(anew.region !== used.region)
    cache.giveBack(used)
    #expect(domain.isRegistered(used.region), "it has another user")
    cache.giveBack(twice)
    #expect(!domain.isRegistered(used.region))
    cache.giveBack(anew)
    cache.invalidate(address: 0x2000, byteCount: 0x1000)
    #expect(domain.registered.count == 2)
    cache.invalidateAll()
    #expect(domain.registered.isEmpty && cache.counts.byteCount == 0)
  }

  @Test("what is invalidated while it is being registered is for that use alone")
  func invalidatedMeanwhile() throws {
    let held = Mutex<RegistrationCache?>(nil)
    let domain = CountingDomain {
      held.withLock { $0 }?.invalidate(address: 0x1800, byteCount: 1)
    }
    let cache = RegistrationCache(in: domain)
    held.withLock { $0 = cache }
    let use = try cache.use(address: 0x1000, byteCount: 0x1000)
    held.withLock { $0 = nil }
    #expect(domain.isRegistered(use.region))
    let next = try cache.use(address: 0x1000, byteCount: 0x1000)
    #expect(next.region !== use.region)
    cache.giveBack(use)
    #expect(!domain.isRegistered(use.region) && domain.isRegistered(next.region))
    cache.giveBack(next)
  }

  @Test("where the system has no more, idle ones go until it has; without idle ones it is told")
  func exhausted() throws {
    let cache = cache()
    for page in 1...4 as ClosedRange<UInt64> {
      cache.giveBack(try cache.use(address: page << 12, byteCount: 0x1000))
    }
    domain.state.withLock { $0.capacity = 2 }
    let uses = try (5...6).map { try cache.use(address: UInt64($0 << 12), byteCount: 0x1000) }
    #expect(throws: RegistrationError.refused("no more than 2")) {
      try cache.use(address: 0x9000, byteCount: 0x1000)
    }
    #expect(throws: RegistrationError.emptyOrWrapping) {
      try cache.use(address: .max, byteCount: 2)
    }
    for use in uses { cache.giveBack(use) }
  }

  @Test("over an adapter's own domain; all registrations end with the cache")
  func overTCP() throws {
    let domain = try TCPAdapter().makeProtectionDomain()
    let mapping = try Mapping.anonymous(byteCount: 4 * pageByteCount)
    do {
      let cache = RegistrationCache(in: domain)
      let use = try cache.use(address: mapping.address, byteCount: mapping.byteCount)
      #expect(use.region.remoteKey == nil)
      cache.giveBack(use)
    }
  }

  @Test("rights of peers, a use given back twice, and one that is left trap")
  func traps() async {
    await #expect(processExitsWith: .failure) {
      _ = RegistrationCache(in: CountingDomain(), access: .remoteWrite)
    }
    await #expect(processExitsWith: .failure) {
      let cache = RegistrationCache(in: CountingDomain())
      let use = try cache.use(address: 1, byteCount: 1)
      cache.giveBack(use)
      cache.giveBack(use)
    }
    await #expect(processExitsWith: .failure) {
      _ = try RegistrationCache(in: CountingDomain()).use(address: 1, byteCount: 1)
    }
  }

  @Test(
    "threads that use, give back and invalidate: what is used is registered, and nothing is left")
  func threads() async throws {
    let domain = domain
    let cache = cache(entries: 16, bytes: 1 << 16)
    await withTaskGroup(of: Void.self) { group in
      for seed in 1...4 as ClosedRange<UInt64> {
        group.addTask {
          var random = seed &* 0x9e37_79b9_7f4a_7c15
          func next(_ bound: UInt64) -> UInt64 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (random >> 33) % bound
          }
          var uses: [RegistrationCache.Use] = []
          for _ in 0..<5_000 {
            let address = 0x10000 + next(32) << 12
            switch next(8) {
            case 0: cache.invalidate(address: address, byteCount: 0x1000)
            case 1...4:
              let byteCount = Int(1 + next(4)) << 12
              guard let use = try? cache.use(address: address, byteCount: byteCount) else { break }
              let region = use.region
              if region.address > address
                || region.address + UInt64(region.byteCount) < address + UInt64(byteCount)
              {
                Issue.record("\(address) is not covered")
              }
              uses.append(use)
            default: if let use = uses.popLast() { cache.giveBack(use) }
            }
            for use in uses.prefix(2) where !domain.isRegistered(use.region) {
              Issue.record("\(use.region.address) is in use and not registered")
            }
            while uses.count > 8 { cache.giveBack(uses.removeFirst()) }
          }
          for use in uses { cache.giveBack(use) }
        }
      }
    }
    let counts = cache.counts
    #expect(counts.usedEntryCount == 0 && counts.hitCount > 0)
    #expect(counts.entryCount <= 16 && counts.byteCount <= 1 << 16)
    #expect(domain.registered.count == counts.entryCount)
    cache.invalidateAll()
    #expect(domain.registered.isEmpty)
  }
}
