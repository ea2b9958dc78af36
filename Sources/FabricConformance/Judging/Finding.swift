/// Why a case failed: what was expected, what was seen.
struct Finding: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Why a case says nothing of this peer.
struct NotApplicable: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Throws a finding unless `holds`.
func expect(_ holds: Bool, _ words: @autoclosure () -> String) throws {
  if !holds { throw Finding(words()) }
}
