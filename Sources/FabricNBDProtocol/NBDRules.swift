/// What the requests of a session are held to. Plain data.
package struct NBDRules: BitwiseCopyable {
  package var byteCount: UInt64
  package var blockMask: UInt64
  package var isReadOnly: Bool
  package var hasStructuredReplies: Bool
  package var hasAllocationContext: Bool

  package init(
    byteCount: UInt64 = 0, blockMask: UInt64 = 0, isReadOnly: Bool = true,
    hasStructuredReplies: Bool = false, hasAllocationContext: Bool = false
  ) {
    self.byteCount = byteCount
    self.blockMask = blockMask
    self.isReadOnly = isReadOnly
    self.hasStructuredReplies = hasStructuredReplies
    self.hasAllocationContext = hasAllocationContext
  }
}
