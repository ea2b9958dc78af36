/// Notices that there is nobody to judge any more: the cases that are left would each wait in vain.
struct Absence {
  /// Of how many cases in a row nothing came.
  private var count = 0
  private static let limit = 3

  mutating func note(isThere: Bool) { count = isThere ? 0 : count + 1 }

  /// - Throws: that the case is not put, once three in a row found nobody.
  func check(_ peer: String) throws(NotApplicable) {
    guard count >= Self.limit else { return }
    throw NotApplicable("not put: in \(Self.limit) cases in a row there was no \(peer)")
  }
}
