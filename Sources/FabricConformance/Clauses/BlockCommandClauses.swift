extension Clause {
  /// The clauses of `Specs/IOProtocol.md` on messages and commands.
  static let commands: [Clause] = [
    Clause(
      "IO-20", .must, .both, of: .blockIO, in: "Messages",
      """
      A message for which no tag is told has 0, which is not looked at. Kinds: 1 command, 2 \
      response, 3 ready, 4 volume query, 5 volume entry, 6 fence, 7 fenced, 8 path state, 9 \
      address query, 10 address entry, 11 control call, 12 control answer. Any other kind, or \
      one of the wrong direction, ends the channel.
      """),
    Clause(
      "IO-21", .must, .both, of: .blockIO, in: "Messages",
      """
      The host sends no command before the unit's `ready` (no payload), and no more at once than \
      the unit's answer allows. More ends the channel.
      """),
    Clause(
      "IO-22", .must, .both, of: .blockIO, in: "Messages",
      """
      A tag is the slot of the host's table (low 16 bits) and the slot's generation (the next 15 \
      bits); the highest bit is 0, and a command that sets it ends the channel. The channel's \
      tag of a command and its response is that of the capsule, or the channel ends. A host does \
      not use a tag again that is under way. An end with a tag that no command under way on the \
      connection has is no end: the host takes no notice of it, or ends the channel.
      """),
    Clause(
      "IO-30", .must, .both, of: .blockIO, in: "Commands",
      """
      A command is 64 bytes: opcode (1), flags (1: bit 0 force unit access), reserved (2), tag \
      (4), first block (8), block count (4), byte count (4), address of the host's buffer (8), \
      key of the host's buffer (4), reserved (28). Opcodes are those of the NVM command set: \
      flush 0x00, write 0x01, read 0x02, write uncorrectable 0x04, compare 0x05, write zeroes \
      0x08, deallocate 0x09.
      """),
    Clause(
      "IO-31", .must, .both, of: .blockIO, in: "Commands",
      """
      A write or compare is a transfer: its data lies in one of the unit's advertised buffers \
      and its byte count is that of the data. A command of another kind that comes as a transfer \
      is answered with `invalidField`, and so is a write or compare without data.
      """),
    Clause(
      "IO-32", .must, .both, of: .blockIO, in: "Commands",
      """
      A read names a range at the host with a key that allows remote writes; the unit pushes the \
      data there. The data of a successful read is complete when its end is seen.
      """),
    Clause(
      "IO-33", .must, .unit, of: .blockIO, in: "Commands",
      """
      An unknown opcode is answered with `unsupported`, a malformed capsule with `invalidField` \
      and its message's tag. Then, in this order: a byte count above the unit's most, and force \
      unit access on another command than read, write and write zeroes, are `invalidField`; a \
      command that changes blocks and has no right to is `readOnly`; a flush that names blocks, \
      another command that names none, and a byte count that is not that of the blocks (read, \
      write, compare) or not 0 (the others) are `invalidField`; blocks beyond the last are \
      `lbaOutOfRange`.
      """),
    Clause(
      "IO-34", .must, .unit, of: .blockIO, in: "Commands",
      """
      A response is 16 bytes: tag (4), status (2), reserved (2), bytes transferred (4), reserved \
      (4). Of a command that succeeded these are the bytes of its data, of one that failed they \
      mean something where IO-35 says so alone. A successful read may end with a push that names \
      its tag instead, which means success and all bytes. Status is status code type times 256 \
      plus status code of NVM Express: A code that is not in the table reads as internalError.
      """),
    Clause(
      "IO-35", .must, .unit, of: .blockIO, in: "Commands",
      """
      When the medium fails in the middle of a read, the bytes ahead of the bad block are \
      pushed, and the response says how many they are. A write, a write of zeroes and a \
      deallocation make a bad block good.
      """),
    Clause(
      "IO-36", .must, .both, of: .blockIO, in: "Commands",
      """
      Commands in flight have no order among each other. A command sent after another's end was \
      seen sees its effect.
      """),
    Clause(
      "IO-37", .must, .host, of: .blockIO, in: "Commands",
      """
      What was under way on a connection that is lost may still be alive at the unit. A host \
      sends none of it again before the unit has said, over another connection of the session, \
      that the lost one is fenced (IO-50): nothing of the old connection can reach the blocks \
      later. It then finishes what the unit knows the end of, and sends the rest again. Where it \
      has given some of it up meanwhile, it sends nothing at all before that. A connection that \
      breaks before a request on it has ended counts as a failed attempt: the wait before the \
      next grows, and the time-out goes on.
      """),
  ]
}
