extension Clause {
  /// The clauses of `Specs/IOProtocol.md` on ground rules, opening and discovery.
  static let opening: [Clause] = [
    Clause(
      "IO-1", .must, .both, of: .blockIO, in: "Ground rules",
      """
      Integers are little-endian; offsets count bytes from the start of the record; names are \
      UTF-8.
      """),
    Clause(
      "IO-2", .must, .both, of: .blockIO, in: "Ground rules",
      """
      Each opening begins with the mark `43 46 49 4F` (`CFIO`) and the version, in this place in \
      every version.
      """),
    Clause(
      "IO-3", .must, .both, of: .blockIO, in: "Ground rules",
      """
      This is version 1. A side that meets another version refuses the connection and says both \
      numbers.
      """),
    Clause(
      "IO-4", .must, .both, of: .blockIO, in: "Ground rules",
      """
      Whatever a peer sends is checked before it is used; a record that breaks the rules is \
      answered with a status or ends the channel, and nothing else happens.
      """),
    Clause(
      "IO-5", .must, .both, of: .blockIO, in: "Ground rules",
      """
      Reserved bytes are sent as zero and refused when they are not.
      """),
    Clause(
      "IO-10", .must, .both, of: .blockIO, in: "Opening",
      """
      The host's opening travels as the channel's greeting: mark, version (2 bytes), access (1: \
      0 read-only, 1 read-write), length of the volume's name (1), session (8 high, 8 low), \
      epoch (4), commands in flight (2, not 0), length of the host's name (1), number of the \
      connection (1), then the two names. At most 128 bytes.
      """),
    Clause(
      "IO-11", .must, .both, of: .blockIO, in: "Opening",
      """
      An empty volume name opens a *discovery channel*: it carries volume and address queries \
      and their entries only, from its opening on; no `ready` comes. No other channel carries \
      these.
      """),
    Clause(
      "IO-12", .must, .both, of: .blockIO, in: "Opening",
      """
      Names have 1 to 64 bytes; the two names of an opening at most 96 together.
      """),
    Clause(
      "IO-13", .must, .unit, of: .blockIO, in: "Opening",
      """
      A volume that may only be read is not given to a host that asks for read-write: it is \
      refused with the reason.
      """),
    Clause(
      "IO-14", .must, .unit, of: .blockIO, in: "Opening",
      """
      A session is that of a host's name on one volume. It has connections, each with an epoch \
      and a number. One whose epoch is less than the newest of its session on that volume is \
      refused, and so is one with epoch and number of another that is not over. A greater epoch \
      *fences* all connections of earlier ones: nothing more is accepted from them, and the unit \
      sends `ready` on the new channel once all that it had accepted from them has ended. \
      Connections of one epoch stand beside each other, over whatever address they came. The \
      epoch and number of a connection that is over may be used again. Other sessions notice \
      nothing.
      """),
    Clause(
      "IO-15", .must, .unit, of: .blockIO, in: "Opening",
      """
      The unit's answer: mark, version (2), access (1), length of the unit's name (1), volume \
      identity (8 high, 8 low), block count (8), bytes of a block (4), most bytes that a command \
      transfers (4), most commands in flight (2, of which the host uses no more than it asked \
      for), the path's state (1, IO-60), reserved (1), then the unit's name. Access is what this \
      host was given. On a discovery channel identity, block count, bytes of a block and access \
      are 0, and the most bytes and commands mean nothing.
      """),
    Clause(
      "IO-16", .must, .unit, of: .blockIO, in: "Opening",
      """
      A refusal carries the reason as text.
      """),
    Clause(
      "IO-17", .must, .unit, of: .blockIO, in: "Opening",
      """
      Where hosts prove keys (`Messaging.md`), a host's name is that of the key. A unit may \
      limit which host uses which volume, and whether it writes: what a host may not use is in \
      no listing, and is refused with the words for what is not there. Where it may only read, \
      the volume is one that may only be read (IO-13).
      """),
    Clause(
      "IO-40", .must, .both, of: .blockIO, in: "Discovery",
      """
      A query's payload is a name of at most 64 bytes, or nothing. The answer is the first \
      volume, in bytewise order of names, after it. A host has at most 16 queries without an \
      answer on a channel: more may end it.
      """),
    Clause(
      "IO-41", .must, .unit, of: .blockIO, in: "Discovery",
      """
      An entry: presence (1: 1 a volume, 0 none left), access (1, the most that this host may \
      have), length of the name (1), reserved (1), bytes of a block (4), identity (8 high, 8 \
      low), block count (8), name. With presence 0 the other bytes are 0.
      """),
    Clause(
      "IO-42", .must, .both, of: .blockIO, in: "Discovery",
      """
      An address query is a number (2) from 0: the first, second and so on of the addresses that \
      the unit can be reached at.
      """),
    Clause(
      "IO-43", .must, .unit, of: .blockIO, in: "Discovery",
      """
      Its answer: presence (1: 1 an address, 0 none of that number), state of the paths through \
      it (1), length of the fabric's name (1), length of the place (1), then the two: `tcp` and \
      `192.0.2.1:4420`, say. With presence 0 the other bytes are 0. An address that stands for \
      every one of the machine is replaced by those of its interfaces.
      """),
  ]
}
