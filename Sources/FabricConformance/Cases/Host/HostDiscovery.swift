import FabricPlatform

/// How hosts ask what a unit has.
extension ConformanceCase {
  static let hostDiscovery: [ConformanceCase] = [
    ConformanceCase(
      ofHost: "host-discovers", ["IO-10", "IO-11", "IO-40", "IO-42"],
      "A host that names no volume asks, a bounded number of queries at once, and does nothing else."
    ) { bench in
      let unit = try bench.unit()
      try unit.waitForOpening()
      guard unit.greeting?.volume.isEmpty == true else {
        throw NotApplicable("the host names a volume: run it with a command that lists volumes")
      }
      try unit.sendOpened()
      try unit.wait("a query") { !unit.queries.isEmpty || unit.isOver }
      try unit.idle(.milliseconds(500))
      try expect(
        (1...16).contains(unit.queries.count),
        "IO-40: expected 1 to 16 queries without an answer, got \(unit.queries.count)")
      for query in unit.queries where query.kind == BlockKind.volumeQuery {
        try expect(
          query.body.count <= 64, "IO-40: expected a name of at most 64 bytes, got \(query)")
      }
      for query in unit.queries where query.kind == BlockKind.addressQuery {
        try expect(query.body.count == 2, "IO-42: expected a number of 2 bytes, got \(query)")
      }
      try unit.serve(.seconds(3)) { bench.program?.status != nil }
    }
  ]
}
