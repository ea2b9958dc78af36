import FabricSimulated
import FabricVerbs

extension Mutation {
  static let ofUnits: [Mutation] =
    channel + openings + blocks + extras + lax + remoteKeys + proofs + buffers

  private static let channel: [Mutation] = [
    says("messages of a type that does not exist", "MS-1", by: "unit-answer", in: Kind.user) {
      $0[0] = 12
    },
    says(
      "a buffer named where the host has none", "MS-1", by: "tag-generation", in: Kind.user,
      kind: Kind.response
    ) {
      $0[1] = 1
    },
    says("credit for a message too much", "MS-5", by: "opened", in: Kind.opened) { $0[8] &+= 2 },
    says("no receive is ever told as reposted", "MS-5", by: "credit-reported") { bytes, _ in
      bytes[word: 8] = 0
      return .delivered
    },
    says(
      "a list of buffers back that is longer than any memory", "MS-6", by: "unit-answer",
      in: Kind.user, kind: Kind.ready
    ) {
      $0[0] = 7
      $0 += [UInt8](repeating: 255, count: 8)
    },
    says(
      "a buffer back that was never filled", "MS-6", by: "tag-generation", in: Kind.user,
      kind: Kind.response
    ) {
      $0[12] = 5
      $0[13] = 0
    },
    says("buffers never come back", "MS-6", by: "buffers-come-back") { bytes, _ in
      guard bytes[0] != 7 else { return .lost }
      if bytes[0] > 3 { bytes.replaceSubrange(12..<16, with: [255, 255, 255, 255]) }
      return .delivered
    },
    says("a buffer comes back twice", "MS-6", by: "write-zeroes") { bytes, state in
      if bytes[0] == Kind.opened { state.lastReturn = 0xffff }
      guard bytes[0] == Kind.user else { return .delivered }
      let id = UInt16(bytes[12]) | UInt16(bytes[13]) << 8
      if id != 0xffff {
        state.lastReturn = id
      } else if state.lastReturn != 0xffff {
        bytes[12] = UInt8(truncatingIfNeeded: state.lastReturn)
        bytes[13] = UInt8(truncatingIfNeeded: state.lastReturn >> 8)
        state.lastReturn = 0xffff
      }
      return .delivered
    },
    keeps("no beats", "MS-11", by: "beat-interval", Kind.credit),
    writes("the end of a push tells another tag", "MS-9", by: "write-read") {
      if $0.opcode == .writeWithImmediate { $0.immediate ^= 1 }
      return .delivered
    },
    writes("the end of a push comes without the data", "MS-9", by: "write-read") {
      for index in $0.bytes.indices { $0.bytes[index] = 0 }
      return .delivered
    },
    writes("one byte of a push is another", "IO-32", by: "write-read") {
      if !$0.bytes.isEmpty { $0.bytes[$0.bytes.count - 1] ^= 1 }
      return .delivered
    },
  ]

  private static let openings: [Mutation] = [
    says("`opened` with a range of versions", "MS-3", by: "opened", in: Kind.opened) { $0[18] = 2 },
    says("`opened` with 4 receives", "MS-3", by: "opened", in: Kind.opened) { $0[word: 20] = 4 },
    says("`opened` with short receives", "MS-3", by: "opened", in: Kind.opened) {
      $0[word: 24] = 128
    },
    says("`opened` with too many buffers", "MS-3", by: "opened", in: Kind.opened) {
      $0[word: 28] = 5000
    },
    says("`opened` with an unknown flag", "MS-3", by: "opened", in: Kind.opened) { $0[48] |= 4 },
    says("`opened` with a wrong length of the greeting", "MS-3", by: "opened", in: Kind.opened) {
      $0[52] &+= 1
    },
    says("`opened` with a reserved field set", "MS-3", by: "opened", in: Kind.opened) {
      $0[60] = 1
    },
    says("`opened` with buffers behind the last address", "MS-3", by: "opened", in: Kind.opened) {
      for index in 32..<40 { $0[index] = 255 }
    },
    says("refusals without words", "MS-4", by: "opening-version", in: Kind.refused) {
      $0 = Array($0[..<16])
    },
    says("refusals that are no text", "IO-16", by: "opening-version", in: Kind.refused) {
      $0[20] = 0xC3; $0[21] = 0x28
    },
    says(
      "a refusal of a version that does not name it", "IO-3", by: "greeting-version",
      in: Kind.refused
    ) {
      for index in 16..<$0.count where $0[index] == UInt8(ascii: "7") {
        $0[index] = UInt8(ascii: "x")
      }
    },
    says("another mark in the greeting", "IO-2", by: "unit-answer", in: Kind.opened) {
      $0[greeting] = 0x44
    },
    says("another version in the greeting", "IO-3", by: "unit-answer", in: Kind.opened) {
      $0[greeting + 4] = 2
    },
    says("blocks of 1000 bytes", "IO-15", by: "unit-answer", in: Kind.opened) {
      $0[word: greeting + 32] = 1000
    },
    says("blocks of no bytes", "IO-15", by: "unit-answer", in: Kind.opened) {
      $0[word: greeting + 32] = 0
    },
    says("blocks of 2 GiB", "IO-15", by: "unit-answer", in: Kind.opened) {
      $0[word: greeting + 32] = 1 << 31
    },
    says("a depth of 0", "IO-15", by: "unit-answer", in: Kind.opened) {
      $0[greeting + 40] = 0; $0[greeting + 41] = 0
    },
    says("a path state that does not exist", "IO-60", by: "unit-answer", in: Kind.opened) {
      $0[greeting + 42] = 7
    },
    says("an identity that is another each time", "IO-15", by: "identity-stays") { bytes, state in
      guard bytes[0] == Kind.opened else { return .delivered }
      state.count += 1
      bytes[greeting + 8] = UInt8(truncatingIfNeeded: state.count)
      return .delivered
    },
  ]

  private static let blocks: [Mutation] = [
    keeps("`ready` never comes", "IO-21", by: "unit-answer", Kind.user, kind: Kind.ready),
    says("messages of a kind that does not exist", "IO-20", by: "unit-answer") { bytes, _ in
      if bytes[0] == Kind.user, bytes[2] == Kind.ready { bytes[2] = 99 }
      return .delivered
    },
    says(
      "more bytes transferred than a command has", "IO-34", by: "write-read", in: Kind.user,
      kind: Kind.response
    ) { $0[word: body + 8] = 987_654 },
    says("`ready` with a payload", "IO-21", by: "unit-answer", in: Kind.user, kind: Kind.ready) {
      $0.append(1)
    },
    says(
      "forgotten generation: answers name the slot alone", "IO-22", by: "tag-generation",
      in: Kind.user, kind: Kind.response
    ) {
      $0[6] = 0
      $0[7] = 0
      $0[body + 2] = 0
      $0[body + 3] = 0
    },
    says(
      "an answer whose message has another tag", "IO-22", by: "tag-generation", in: Kind.user,
      kind: Kind.response
    ) {
      $0[body] ^= 1
    },
    says(
      "a reserved byte set in responses", "IO-5", by: "tag-generation", in: Kind.user,
      kind: Kind.response
    ) {
      $0[body + 12] = 1
    },
    says(
      "a status that is not in the table", "IO-34", by: "tag-generation", in: Kind.user,
      kind: Kind.response
    ) {
      $0[body + 4] = 0x34
      $0[body + 5] = 0x12
    },
    status(0x285, isTold: 0, "compare succeeds whatever the blocks hold", "IO-34", by: "compare"),
    status(0x80, isTold: 0, "blocks behind the last are read", "IO-33", by: "read-beyond"),
    status(2, isTold: 0, "malformed commands succeed", "IO-33", by: "command-reserved"),
    status(2, isTold: 0, "writes without data succeed", "IO-31", by: "write-without-data"),
    status(1, isTold: 2, "unknown opcodes are called invalid", "IO-33", by: "opcode-unknown"),
    status(0x182, isTold: 0, "read-only hosts write", "IO-10", by: "read-only-host"),
    status(0x281, isTold: 0, "bad blocks are read", "IO-35", by: "uncorrectable"),
    says(
      "the bytes ahead of a bad block are not told", "IO-35", by: "uncorrectable", in: Kind.user,
      kind: Kind.response
    ) {
      if $0[body + 4] == 0x81, $0[body + 5] == 2 { $0[word: body + 8] = 0 }
    },
    keeps(
      "commands are never answered", "IO-34", by: "tag-generation", Kind.user, kind: Kind.response),
  ]

  private static let extras: [Mutation] = [
    says(
      "a volume's entry with a wrong length of its name", "IO-41", by: "discovery-order",
      in: Kind.user, kind: Kind.entry
    ) {
      $0[body + 2] &+= 1
    },
    says(
      "entries in another size than the opening's", "IO-41", by: "discovery-agrees", in: Kind.user,
      kind: Kind.entry
    ) {
      if $0[body] == 1 { $0[body + 24] ^= 1 }
    },
    says(
      "an end of the listing that is not empty", "IO-41", by: "discovery-order", in: Kind.user,
      kind: Kind.entry
    ) {
      if $0[body] == 0 { $0[body + 8] = 1 }
    },
    says(
      "an address entry longer than it says", "IO-43", by: "discovery-addresses", in: Kind.user,
      kind: Kind.place
    ) {
      $0.append(0)
    },
    says(
      "a fence's answer that names another connection", "IO-52", by: "fence-unknown", in: Kind.user,
      kind: Kind.fenced
    ) {
      $0[body + 4] &+= 1
    },
    says(
      "a fence's answer that knows an end of what was never sent", "IO-52", by: "fence",
      in: Kind.user, kind: Kind.fenced
    ) {
      if $0.count >= body + 32 { $0[body + 30] = 1 }
    },
    says(
      "a fence's answer that has forgotten what was done", "IO-52", by: "fence", in: Kind.user,
      kind: Kind.fenced
    ) {
      if $0.count >= body + 32 { $0[body + 18] = 0 }
    },
    says(
      "identify counts a block more", "IO-72", by: "control-identify", in: Kind.user,
      kind: Kind.answer
    ) {
      if $0.count > body + 40 { $0[body + 12 + 16] &+= 1 }
    },
    says(
      "unknown control calls succeed", "IO-74", by: "control-unknown", in: Kind.user,
      kind: Kind.answer
    ) {
      $0[word: body] = 0
    },
    says(
      "control answers longer than they say", "IO-71", by: "control-block-size", in: Kind.user,
      kind: Kind.answer
    ) {
      $0.append(0)
    },
  ]

  private static let lax: [Mutation] = [
    overlooks("unknown types are overlooked", "MS-12", by: "header-type-unknown") {
      $0[0] > 10 ? .lost : .delivered
    },
    overlooks("a second `open` is overlooked", "MS-3", by: "second-open") {
      // The one that the case sends second names a volume "a".
      $0[0] == Kind.open && $0.count > 97 && $0[64 + 7] == 1 && $0[96] == UInt8(ascii: "a")
        ? .lost : .delivered
    },
    overlooks("impossible credit is overlooked", "MS-5", by: "credit-beyond") {
      $0[word: 8] > 50_000 ? .lost : .delivered
    },
    overlooks(
      "buffers back that were never taken are overlooked", "MS-6", by: "buffer-back-unknown"
    ) {
      $0.replaceSubrange(12..<16, with: [255, 255, 255, 255])
      return .delivered
    },
    overlooks("any version is taken", "MS-4", by: "opening-version") {
      if $0[0] == Kind.open { $0[16] = 1; $0[18] = 1 }
      return .delivered
    },
    overlooks("too few receives are taken", "MS-4", by: "opening-few-receives") {
      if $0[0] == Kind.open { $0[word: 20] = 64 }
      return .delivered
    },
    overlooks("stale epochs are taken", "IO-14", by: "epoch-stale") {
      if $0[0] == Kind.open, $0[64 + 24] == 4 { $0[64 + 24] = 6 }
      return .delivered
    },
    overlooks("a greater epoch fences nobody", "IO-14", by: "epoch-fences") {
      // It comes as a connection beside the other.
      if $0[0] == Kind.open, $0[64 + 24] == 2 { $0[64 + 24] = 1; $0[64 + 31] = 9 }
      return .delivered
    },
    overlooks("unknown kinds are overlooked", "IO-20", by: "message-kind") {
      $0[0] == Kind.user && $0[2] == 99 ? .lost : .delivered
    },
    overlooks("tags with the highest bit are overlooked", "IO-22", by: "tag-high-bit") {
      $0[0] == Kind.user && $0[7] & 0x80 != 0 ? .lost : .delivered
    },
    overlooks("commands on a discovery channel are overlooked", "IO-11", by: "discovery-command") {
      $0[0] == Kind.user && $0[2] == 1 ? .lost : .delivered
    },
    overlooks("a fence of itself is overlooked", "IO-50", by: "fence-itself") {
      $0[0] == Kind.user && $0[2] == 6 ? .lost : .delivered
    },
    overlooks("`close` is overlooked", "MS-10", by: "close-arrives") {
      $0[0] == 8 ? .lost : .delivered
    },
  ]

  /// The adapter is the unit's: what it lets pass, the unit does.
  private static let remoteKeys: [Mutation] = [
    asksNot(.validity, "keys are not revoked", "MS-6", by: "key-after-close"),
    asksNot(.connection, "keys are good for every connection", "MS-6", by: "key-of-another"),
    asksNot(.bounds, "keys open more than the buffers", "MS-6", by: "write-outside"),
  ]

  private static let proofs: [Mutation] = [
    says("a challenge that proves nothing", "MS-15", by: "key-proven", in: Kind.challenge) {
      $0[$0.count - 1] ^= 1
    },
    says("`opened` that proves nothing", "MS-15", by: "key-proven", in: Kind.opened) {
      $0[$0.count - 1] ^= 1
    },
    says("the same nonce each time", "MS-16", by: "key-fresh-nonces", in: Kind.challenge) {
      for index in body..<(body + 32) { $0[index] = 7 }
    },
    overlooks("names without a key are not answered", "MS-16", by: "key-unknown-name") {
      $0[0] == Kind.hello && $0.suffix(4) == Array("this".utf8)[...] ? .lost : .delivered
    },
    says(
      "a refusal for want of a key that is like any other", "MS-17", by: "key-missing",
      in: Kind.refused
    ) { $0[2] = 0 },
    says(
      "a refusal of a wrong proof that is like any other", "MS-17", by: "key-wrong-proof",
      in: Kind.refused
    ) { $0[2] = 0 },
  ]

  private static let buffers: [Mutation] = [
    overlooks(
      immediate: UInt32(16) << 16 | 0xffff, "immediates that name no buffer are overlooked", "MS-7",
      by: "immediate-no-buffer"),
    overlooks(
      immediate: UInt32(8) << 16, "immediates of half a header are overlooked", "MS-7",
      by: "immediate-short"),
    overlooks(
      immediate: UInt32(4097) << 16, "immediates of a long header are overlooked", "MS-7",
      by: "immediate-long"),
    overlooks("buffers that are not the unit's are overlooked", "MS-8", by: "buffer-unknown") {
      $0[0] == Kind.user && $0[1] == 1 && $0.count > 17 && $0[word: 16] & 0xffff > 0
        && $0[word: 20] == 8 ? .lost : .delivered
    },
    overlooks("buffers filled beyond their end are overlooked", "MS-8", by: "buffer-overlong") {
      $0[0] == Kind.user && $0[1] == 1 && $0[word: 20] > 65_536 ? .lost : .delivered
    },
  ]

  /// One status is told as another.
  private static func status(
    _ status: UInt16, isTold other: UInt16, _ description: String, _ clause: String,
    by caughtBy: String
  ) -> Mutation {
    says(description, clause, by: caughtBy, in: Kind.user, kind: Kind.response) {
      guard UInt16($0[body + 4]) | UInt16($0[body + 5]) << 8 == status else { return }
      $0[body + 4] = UInt8(truncatingIfNeeded: other)
      $0[body + 5] = UInt8(truncatingIfNeeded: other >> 8)
    }
  }
}
