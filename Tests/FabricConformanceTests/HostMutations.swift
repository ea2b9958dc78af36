import FabricHostDriver
import FabricSimulated
import FabricVerbs

extension Mutation {
  static let ofHosts: [Mutation] = hostOpenings + hostKeys + hostWork + hostDeafness + hostPaths

  private static let hostOpenings: [Mutation] = [
    says("`open` without version 1", "MS-3", by: "host-opening", of: .host, in: Kind.open) {
      $0[16] = 2
      $0[18] = 2
    },
    says("`open` with 4 receives", "MS-3", by: "host-opening", of: .host, in: Kind.open) {
      $0[word: 20] = 4
    },
    says("`open` with long receives", "MS-3", by: "host-opening", of: .host, in: Kind.open) {
      $0[word: 24] = 70_000
    },
    says("`open` with an unknown flag", "MS-3", by: "host-opening", of: .host, in: Kind.open) {
      $0[48] |= 8
    },
    says("`open` with a reserved field set", "MS-3", by: "host-opening", of: .host, in: Kind.open) {
      $0[54] = 1
    },
    says(
      "another mark in the host's greeting", "IO-2", by: "host-opening", of: .host, in: Kind.open
    ) {
      $0[greeting] = 0x44
    },
    says(
      "another version in the host's greeting", "IO-3", by: "host-opening", of: .host, in: Kind.open
    ) { $0[greeting + 4] = 2 },
    says("an access that does not exist", "IO-10", by: "host-opening", of: .host, in: Kind.open) {
      $0[greeting + 6] = 7
    },
    says("no commands in flight wanted", "IO-10", by: "host-opening", of: .host, in: Kind.open) {
      $0[greeting + 28] = 0
      $0[greeting + 29] = 0
    },
    says("a host's name longer than it says", "IO-10", by: "host-opening", of: .host, in: Kind.open)
    {
      $0[greeting + 30] &-= 1
    },
    overlooks("`refused` is overlooked", "MS-3", by: "host-refused", Kind.refused),
    overlooks("any version of `opened` is taken", "MS-3", by: "host-answer-version") {
      if $0[0] == Kind.opened { $0[16] = 1; $0[18] = 1 }
      return .delivered
    },
    overlooks("too few receives of a unit are taken", "MS-4", by: "host-answer-receives") {
      if $0[0] == Kind.opened { $0[word: 20] = 64 }
      return .delivered
    },
    overlooks("any mark of a unit is taken", "IO-2", by: "host-greeting-mark") {
      if $0[0] == Kind.opened { $0[greeting] = 0x43 }
      return .delivered
    },
    overlooks("any version of a unit's greeting is taken", "IO-3", by: "host-greeting-version") {
      if $0[0] == Kind.opened { $0[greeting + 4] = 1 }
      return .delivered
    },
    overlooks("a unit's reserved byte is not looked at", "IO-5", by: "host-greeting-reserved") {
      if $0[0] == Kind.opened { $0[greeting + 43] = 0 }
      return .delivered
    },
  ]

  private static let hostKeys: [Mutation] = [
    makes("no key is proven", "MS-17", by: "host-key-proven") { $0.options.key = nil },
    says("another name of the key", "MS-14", by: "host-key-proven", of: .host, in: Kind.hello) {
      $0[$0.count - 1] ^= 1
    },
    says("a proof of nothing", "MS-15", by: "host-key-proven", of: .host, in: Kind.open) {
      $0[$0.count - 1] ^= 1
    },
    overlooks("any proof in a challenge is taken", "MS-16", by: "host-key-wrong-challenge") {
      if $0[0] == Kind.challenge { $0[body + 32 + 31] ^= 1 }
      return .delivered
    },
    overlooks("any proof in `opened` is taken", "MS-15", by: "host-key-wrong-opened") {
      if $0[0] == Kind.opened { $0[$0.count - 32] ^= 0x80 }
      return .delivered
    },
    says(
      "a refusal for want of a key that is like any other", "MS-17",
      by: "host-key-wrong-challenge", of: .host, in: Kind.refused
    ) { $0[2] = 0 },
  ]

  private static let hostWork: [Mutation] = [
    says(
      "messages of a type that does not exist", "MS-1", by: "host-works", of: .host, in: Kind.user
    ) {
      $0[0] = 12
    },
    says("credit for messages that never came", "MS-5", by: "host-works", of: .host, in: Kind.user)
    {
      $0[word: 8] &+= 500
    },
    says("no receive is ever told as reposted", "MS-5", by: "host-credit-reported", of: .host) {
      bytes, _ in
      bytes[word: 8] = 0
      return .delivered
    },
    says(
      "messages of a kind that does not exist", "IO-20", by: "host-works", of: .host, in: Kind.user
    ) { $0[2] = 77 },
    says("responses from the host", "IO-20", by: "host-works", of: .host, in: Kind.user) {
      $0[2] = 2
    },
    says("ends of pushes that nobody asked for", "MS-9", by: "host-works", of: .host, in: Kind.user)
    {
      $0[0] = Kind.pushed
    },
    says(
      "tags with the highest bit", "IO-22", by: "host-works", of: .host, in: Kind.user,
      kind: Kind.command
    ) {
      $0[7] |= 0x80
      $0[body + 7] |= 0x80
    },
    says(
      "a command whose message has another tag", "IO-22", by: "host-works", of: .host,
      in: Kind.user,
      kind: Kind.command
    ) { $0[body + 4] ^= 1 },
    says(
      "a reserved byte set in commands", "IO-5", by: "host-works", of: .host, in: Kind.user,
      kind: Kind.command
    ) { $0[body + 63] = 1 },
    says(
      "an unknown flag in commands", "IO-5", by: "host-works", of: .host, in: Kind.user,
      kind: Kind.command
    ) { $0[body + 1] |= 2 },
    says(
      "commands cut short", "IO-30", by: "host-works", of: .host, in: Kind.user, kind: Kind.command
    ) { $0.removeLast(4) },
    says(
      "reads into memory that may not be written to", "IO-32", by: "host-works", of: .host,
      in: Kind.user, kind: Kind.command
    ) { $0[word: body + 32] ^= 0x55 },
    says(
      "a list of buffers back that is longer than any memory", "MS-6", by: "host-works", of: .host,
      in: Kind.user, kind: Kind.call
    ) {
      $0 = [7] + $0[1..<16] + [UInt8](repeating: 255, count: 8)
    },
    says(
      "reads to the last address", "IO-32", by: "host-works", of: .host, in: Kind.user,
      kind: Kind.command
    ) {
      for index in 0..<8 { $0[body + 24 + index] = 255 }
    },
    writes("more bytes written than a buffer has", "IO-31", by: "host-works", of: .host) {
      if $0.bytes.count > 80 { $0.bytes[word: body + 20] = .max }
      return .delivered
    },
    writes("transfers into a buffer that is not there", "MS-7", by: "host-works", of: .host) {
      $0.immediate |= 0xFFF
      return .delivered
    },
    writes("transfers that end as pushes", "MS-9", by: "host-works", of: .host) {
      $0.immediate |= 1 << 31
      return .delivered
    },
    writes("every transfer into one buffer", "MS-6", by: "host-buffers", of: .host) {
      $0.immediate &= ~0xFFFF
      return .delivered
    },
    says("no beats", "MS-11", by: "host-beats", of: .host) { bytes, _ in
      bytes[0] == Kind.credit ? .lost : .delivered
    },
    overlooks("the unit's wish for beats is not heard", "MS-11", by: "host-beats") {
      if $0[0] == Kind.opened { $0[word: 56] = 60_000 }
      return .delivered
    },
    overlooks("silence is not noticed", "MS-11", by: "host-notices-silence") {
      if $0[0] == Kind.opened { $0[word: 56] = 60_000 }
      return .delivered
    },
    overlooks("more commands than the unit allows", "IO-21", by: "host-depth") {
      if $0[0] == Kind.opened { $0[greeting + 40] = 16 }
      return .delivered
    },
    overlooks("more messages than the unit has receives for", "MS-5", by: "host-credit") {
      if $0[0] == Kind.opened { $0[word: 20] = 64 }
      return .delivered
    },
    overlooks("`close` is overlooked", "MS-10", by: "host-leaves", Kind.close),
  ]

  private static let hostDeafness: [Mutation] = [
    overlooks("short headers are overlooked", "MS-1", by: "host-header-type") {
      $0[0] > 10 ? .lost : .delivered
    },
    overlooks("impossible credit of a unit is overlooked", "MS-5", by: "host-credit-beyond") {
      $0[word: 8] > 50_000 ? .lost : .delivered
    },
    overlooks(
      "buffers back that were never filled are overlooked", "MS-6", by: "host-buffer-back"
    ) {
      $0.replaceSubrange(12..<16, with: [255, 255, 255, 255])
      return .delivered
    },
    overlooks("unknown kinds of a unit are overlooked", "IO-20", by: "host-kind") {
      $0[0] == Kind.user && $0[2] == 99 ? .lost : .delivered
    },
    overlooks("commands from a unit are overlooked", "IO-20", by: "host-direction") {
      $0[0] == Kind.user && $0[2] == Kind.command ? .lost : .delivered
    },
    overlooks(
      "forgotten generation: an end of another command is taken", "IO-22",
      by: "host-response-unasked"
    ) {
      if $0[0] == Kind.user, $0[2] == Kind.response, $0[7] & 1 == 1 {
        $0[7] ^= 1
        $0[body + 3] ^= 1
      }
      return .delivered
    },
    overlooks("responses cut short are overlooked", "IO-34", by: "host-response-short") {
      $0[0] == Kind.user && $0[2] == Kind.response && $0.count < body + 16 ? .lost : .delivered
    },
    overlooks("path states that do not exist are overlooked", "IO-61", by: "host-path-state") {
      $0[0] == Kind.user && $0[2] == Kind.pathState && $0[body] == 7 ? .lost : .delivered
    },
  ]

  private static let hostPaths: [Mutation] = [
    makes("what was lost is sent again unfenced", "IO-37", by: "host-fences") { $0.fences = false },
    keeps(
      "what was lost is never fenced", "IO-50", by: "host-fences", of: .host, Kind.user,
      kind: Kind.fence),
    says(
      "a fence without a word", "IO-50", by: "host-fences", of: .host, in: Kind.user,
      kind: Kind.fence
    ) { $0 = Array($0[..<16]) },
    says(
      "a fence of another connection", "IO-50", by: "host-fences", of: .host, in: Kind.user,
      kind: Kind.fence
    ) { $0[body] &+= 1 },
    overlooks("commands by a path that is inaccessible", "IO-60", by: "host-inaccessible") {
      if $0[0] == Kind.opened { $0[greeting + 42] = 0 }
      return .delivered
    },
    says("control calls are not sent again", "IO-75", by: "host-control-again", of: .host) {
      bytes, state in
      guard bytes[0] == Kind.user, bytes[2] == Kind.call else { return .delivered }
      state.count += 1
      return state.count > 1 ? .lost : .delivered
    },
  ]
}
