import FabricNBDProtocol
import Testing

@testable import FabricNBD

@Suite("NBD: the handshake")
struct HandshakeTests {
  private let disk = NBDExport(
    name: "disk", byteCount: 0x10_0000, blockByteCount: 512, isReadOnly: false,
    description: "a disk")
  private let book = NBDExport(
    name: "book", byteCount: 0x2_0000, blockByteCount: 4096, isReadOnly: true)

  private func begun(_ exports: [NBDExport]? = nil, flags: [UInt8] = Wire.clientFlags)
    -> NBDHandshake
  {
    var handshake = NBDHandshake(exports: exports ?? [disk, book])
    #expect(handshake.take(flags) == (.continues, []))
    return handshake
  }

  /// What follows the choice of `disk` without structured replies, byte for byte.
  private let diskInfo: [UInt8] =
    // EXPORT: 1 MiB; all flags but READ_ONLY and SEND_DF
    [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 12]
    + [0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x0d, 0x6d]
    // BLOCK_SIZE: 512, 4096, 32 MiB
    + [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 14]
    + [0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 2, 0, 0, 0]
    // ACK
    + [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]

  @Test("NB-1: the server's first bytes")
  func greeting() {
    #expect(NBDHandshake.greeting == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
  }

  @Test("NB-2: flags that nobody knows end it; who is not fixed has EXPORT_NAME alone")
  func clientFlags() {
    for flags: [UInt8] in [[0, 0, 0, 4], [0x80, 0, 0, 3]] {
      var handshake = NBDHandshake(exports: [disk])
      guard case .abort = handshake.take(flags).outcome else {
        Issue.record("flags \(flags) were taken")
        continue
      }
    }
    var plain = begun(flags: [0, 0, 0, 2])
    guard case .abort = plain.take(Wire.option(NBD.Option.list)).outcome else {
      Issue.record("LIST was taken")
      return
    }
    var other = begun(flags: [0, 0, 0, 0])
    let (outcome, output) = other.take(Wire.option(NBD.Option.exportName, Array("disk".utf8)))
    #expect(outcome == .transmission(NBDSession(export: disk)))
    #expect(output.count == 10 + 124)
  }

  @Test("NB-3: STARTTLS and unknown options are ERR_UNSUP, their data passed over")
  func unknownOptions() {
    var handshake = begun()
    for option: UInt32 in [NBD.Option.startTLS, 4, 11, 0, .max] {
      let (outcome, output) = handshake.take(
        Wire.option(option, [1, 2, 3]) + Wire.option(NBD.Option.structuredReply))
      #expect(outcome == .continues)
      let reply = Wire.optionReply(option, NBD.OptionReply.unsupported)
      #expect(output.starts(with: reply.dropLast(4)))
      #expect(output.suffix(20) == Wire.optionReply(8, 1)[...])
    }
    guard case .abort = handshake.take([UInt8](repeating: 7, count: 16)).outcome else {
      Issue.record("another magic number was taken")
      return
    }
  }

  @Test("NB-4: long options are ERR_TOO_BIG, longer and more of them end it")
  func floods() {
    var handshake = begun()
    let long = Wire.option(NBD.Option.list, [UInt8](repeating: 1, count: 16_385))
    let (outcome, output) = handshake.take(long + Wire.option(NBD.Option.structuredReply))
    #expect(outcome == .continues)
    #expect(
      output.starts(with: Wire.optionReply(3, NBD.OptionReply.tooBig).dropLast(4)))
    #expect(output.suffix(20) == Wire.optionReply(8, 1)[...])
    let longer = Wire.big(NBD.optionMagic) + Wire.big(UInt32(3)) + Wire.big(UInt32(1 << 20 + 1))
    guard case .abort = handshake.take(longer).outcome else {
      Issue.record("an option of more than 1 MiB was taken")
      return
    }
    var other = begun()
    for _ in 0..<NBDHandshake.optionCountLimit {
      #expect(other.take(Wire.option(4)).outcome == .continues)
    }
    guard case .abort = other.take(Wire.option(4)).outcome else {
      Issue.record("as many options as it likes")
      return
    }
  }

  @Test("NB-5: EXPORT_NAME gives size and flags, and ends it when the name is not there")
  func exportName() {
    var handshake = begun()
    let (outcome, output) = handshake.take(
      Wire.option(NBD.Option.exportName, Array("book".utf8)))
    #expect(outcome == .transmission(NBDSession(export: book)))
    #expect(output == [0, 0, 0, 0, 0, 2, 0, 0, 0x0d, 0x6f])
    for name: [UInt8] in [Array("no".utf8), [0xff, 0xfe], [UInt8](repeating: 65, count: 5000)] {
      var other = begun()
      guard case .abort = other.take(Wire.option(NBD.Option.exportName, name)).outcome else {
        Issue.record("a name that is not there was taken")
        return
      }
    }
  }

  @Test("NB-6: the empty name is that of the only volume")
  func emptyName() {
    var one = begun([disk])
    #expect(one.take(Wire.go("")).outcome == .transmission(NBDSession(export: disk)))
    var two = begun()
    let (outcome, output) = two.take(Wire.go(""))
    #expect(outcome == .continues)
    #expect(output.starts(with: Wire.optionReply(7, NBD.OptionReply.unknown).dropLast(4)))
  }

  @Test("NB-7: ABORT is acknowledged and closes")
  func abort() {
    var handshake = begun()
    #expect(handshake.take(Wire.option(NBD.Option.abort)) == (.close, Wire.optionReply(2, 1)))
  }

  @Test("NB-8: LIST names the volumes; data is an error")
  func list() {
    var handshake = begun()
    #expect(
      handshake.take(Wire.option(NBD.Option.list)).output
        == Wire.optionReply(3, 2, Wire.name("disk")) + Wire.optionReply(3, 2, Wire.name("book"))
        + Wire.optionReply(3, 1))
    let (outcome, output) = handshake.take(Wire.option(NBD.Option.list, [0]))
    #expect(outcome == .continues)
    #expect(output.starts(with: Wire.optionReply(3, NBD.OptionReply.invalid).dropLast(4)))
  }

  @Test("NB-9: INFO tells what is asked; NB-10: GO is followed by requests", arguments: [6, 7])
  func info(_ option: UInt32) {
    var handshake = begun()
    let isGo = option == NBD.Option.go
    let ask = Wire.option(option, Wire.name("disk") + [0, 0])
    let (outcome, output) = handshake.take(ask)
    #expect(outcome == (isGo ? .transmission(NBDSession(export: disk)) : .continues))
    var expected = diskInfo
    for place in [11, 43, 77] { expected[place] = UInt8(option) }
    #expect(output == expected)
    var curious = begun()
    let questions: [UInt8] = [0, 4, 0, 1, 0, 2, 0, 3, 0x99, 9]
    let told = curious.take(Wire.option(option, Wire.name("disk") + questions)).output
    #expect(
      told.count == expected.count + 20 + 2 + 4 + 20 + 2 + 6, "NAME and DESCRIPTION besides")
    var wrong = begun()
    for data: [UInt8] in [
      [], [0, 0, 0], Wire.name("disk"), Wire.name("disk") + [0, 1], Wire.name("disk") + [0, 0, 0],
      [0xff, 0xff, 0xff, 0xff, 0, 0], Wire.name("disk") + [0xff, 0xff, 0, 1],
    ] {
      let (outcome, output) = wrong.take(Wire.option(option, data))
      #expect(outcome == .continues)
      #expect(output.starts(with: Wire.optionReply(option, NBD.OptionReply.invalid).dropLast(4)))
    }
    let unknown = wrong.take(Wire.option(option, Wire.name("nobody") + [0, 0])).output
    #expect(unknown.starts(with: Wire.optionReply(option, NBD.OptionReply.unknown).dropLast(4)))
    #expect(wrong.take(Wire.go("disk")).outcome == .transmission(NBDSession(export: disk)))
  }

  @Test("NB-11, NB-20: structured replies are turned on, and show in the flags")
  func structuredReplies() {
    var handshake = begun()
    let refused = handshake.take(Wire.option(NBD.Option.structuredReply, [1])).output
    #expect(refused.starts(with: Wire.optionReply(8, NBD.OptionReply.invalid).dropLast(4)))
    #expect(!handshake.hasStructuredReplies)
    #expect(
      handshake.take(Wire.option(NBD.Option.structuredReply)).output == Wire.optionReply(8, 1))
    let (outcome, output) = handshake.take(
      Wire.option(NBD.Option.exportName, Array("book".utf8)))
    #expect(output.suffix(2) == [0x0d, 0xef])
    #expect(
      outcome == .transmission(NBDSession(export: book, hasStructuredReplies: true)))
  }

  @Test("NB-12, NB-13, NB-14: base:allocation is listed and selected")
  func contexts() {
    let (list, set) = (NBD.Option.listMetaContext, NBD.Option.setMetaContext)
    let allocation = Array("base:allocation".utf8)
    var handshake = begun()
    for option in [list, set] {
      let early = handshake.take(Wire.context(option, "disk", [])).output
      #expect(early.starts(with: Wire.optionReply(option, NBD.OptionReply.invalid).dropLast(4)))
    }
    _ = handshake.take(Wire.option(NBD.Option.structuredReply))
    for queries in [[], ["base:"], ["base:allocation"], ["x:y", "base:allocation"]] {
      #expect(
        handshake.take(Wire.context(list, "disk", queries)).output
          == Wire.optionReply(list, 4, [0, 0, 0, 0] + allocation) + Wire.optionReply(list, 1))
    }
    for option in [list, set] {
      let other = handshake.take(Wire.context(option, "disk", ["qemu:dirty"])).output
      #expect(other == Wire.optionReply(option, 1))
      let unknown = handshake.take(Wire.context(option, "nobody", [])).output
      #expect(unknown.starts(with: Wire.optionReply(option, NBD.OptionReply.unknown).dropLast(4)))
      for data: [UInt8] in [
        [], Wire.name("disk"), Wire.name("disk") + [0, 0, 0, 1],
        Wire.name("disk") + [0xff, 0xff, 0xff, 0xff], Wire.name("disk") + [0, 0, 0, 0, 0],
        Wire.name("disk") + [0, 0, 0, 1, 0, 0, 0, 9, 65],
      ] {
        let wrong = handshake.take(Wire.option(option, data)).output
        #expect(wrong.starts(with: Wire.optionReply(option, NBD.OptionReply.invalid).dropLast(4)))
      }
    }
    let selected = handshake.take(Wire.context(set, "disk", ["base:allocation"])).output
    #expect(
      selected == Wire.optionReply(set, 4, [0, 0, 0, 1] + allocation) + Wire.optionReply(set, 1))
    var fork = handshake
    var session = NBDSession(export: disk, hasStructuredReplies: true, hasAllocationContext: true)
    #expect(fork.take(Wire.go("disk")).outcome == .transmission(session))
    fork = handshake
    session = NBDSession(export: book, hasStructuredReplies: true)
    #expect(fork.take(Wire.go("book")).outcome == .transmission(session))
    #expect(handshake.take(Wire.context(set, "disk", [])).output == Wire.optionReply(set, 1))
    session = NBDSession(export: disk, hasStructuredReplies: true)
    #expect(handshake.take(Wire.go("disk")).outcome == .transmission(session))
  }

  @Test("NB-35: every way to cut a handshake short waits, and takes nothing twice")
  func cut() {
    let all =
      Wire.clientFlags + Wire.option(8) + Wire.option(4, [1, 2, 3]) + Wire.option(NBD.Option.list)
      + Wire.context(NBD.Option.setMetaContext, "disk", ["base:allocation"]) + Wire.go("disk")
    var whole = NBDHandshake(exports: [disk])
    let expected = whole.take(all)
    for length in 1..<all.count {
      var handshake = NBDHandshake(exports: [disk])
      var start = 0
      var said: [UInt8] = []
      var end = min(length, all.count)
      var outcome = NBDHandshake.Outcome.continues
      while outcome == .continues, end <= all.count {
        let (taken, _, next) = Wire.view(Array(all[start..<end])) { handshake.step($0) }
        said += handshake.takeOutput()
        start += taken
        outcome = next
        if taken == 0 { end += length }
        if end > all.count, start < all.count, taken == 0 { end = all.count }
      }
      #expect(outcome == expected.outcome)
      #expect(said == expected.output)
    }
  }
}
