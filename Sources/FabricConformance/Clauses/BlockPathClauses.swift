extension Clause {
  /// The clauses of `Specs/IOProtocol.md` on fencing, paths and control calls.
  static let further: [Clause] = [
    Clause(
      "IO-50", .must, .both, of: .blockIO, in: "Fencing",
      """
      Fence: epoch of the connection (4), its number (1), how many tags follow (1, at most 16), \
      reserved (2), tags (4 each). The unit ends that connection of the same session, if there \
      is one, and accepts nothing more from it. A host has one fence under way on a connection, \
      and none that names the connection itself: else the channel ends.
      """),
    Clause(
      "IO-51", .must, .unit, of: .blockIO, in: "Fencing",
      """
      The unit answers when nothing of that connection is under way any more, however long that \
      takes; the channel goes on meanwhile. Of a connection that it does not know nothing is \
      under way: what it was told before it began anew has ended, as it holds the lock of the \
      volume's file, which the kernel gives up when the last request of the process before it \
      has ended.
      """),
    Clause(
      "IO-52", .must, .unit, of: .blockIO, in: "Fencing",
      """
      Fenced: epoch (4), number (1), how many outcomes follow (1), whether the unit remembers \
      the connection (1), reserved (1), then for each tag in its order: tag (4), bytes \
      transferred (4), status (2, IO-34), 1 if the command ended so and 0 if the unit knows no \
      end of it (1), reserved (1). The unit remembers the last ends of the last eight \
      connections of a session, as many of each as it allows commands: a command without one was \
      not done, where the connection is remembered. Ends of failed commands are remembered, \
      those of reads are not.
      """),
    Clause(
      "IO-60", .must, .both, of: .blockIO, in: "Paths",
      """
      The state of a path is that of the address that the connection came to: 0 optimised, 1 \
      non-optimised (it works, another is better), 2 inaccessible (it stands, and is not to be \
      used now). A host sends no command by a path that is inaccessible; the unit would still do \
      it.
      """),
    Clause(
      "IO-61", .must, .unit, of: .blockIO, in: "Paths",
      """
      Path state (unit to host): state (1), reserved (3). Sent when the state is another than in \
      the unit's answer, or than it was.
      """),
    Clause(
      "IO-70", .must, .both, of: .blockIO, in: "Control calls",
      """
      A control call, like an ioctl: code (4), bytes of payload (2, at most 200), reserved (2), \
      payload. Its message's tag is the host's. A host has at most 16 under way on a connection: \
      more may end the channel. They have no order with commands.
      """),
    Clause(
      "IO-71", .must, .unit, of: .blockIO, in: "Control calls",
      """
      Its answer has the same tag: errno of Linux (4, 0: done, less than 4096), result (4, \
      signed; beside an errno it means nothing), bytes of payload (2, at most 200), reserved \
      (2), payload.
      """),
    Clause(
      "IO-72", .must, .unit, of: .blockIO, in: "Control calls",
      """
      Codes: 1 identify, 2 block size (as the result), 3 set block size (payload 4 bytes), 4 \
      rescan (result 1: the volume has grown; payload the block count, 8 bytes), 5 path state \
      (as the result, IO-60), 6 health, 7 sanitise, from 0x80000000 those of vendors. Identify's \
      payload: identity (8 high, 8 low), block count (8), bytes of a block (4), access (1), \
      lengths of the volume's name and the unit's (1 each), reserved (1), the two names.
      """),
    Clause(
      "IO-73", .must, .unit, of: .blockIO, in: "Control calls",
      """
      Health: seven numbers of 8 bytes since the unit began, for the volume's hosts of this \
      protocol with the same access: reads, bytes read, writes, bytes written, requests that the \
      medium failed, flushes that failed, seconds. Reads that failed count with what was read; \
      writes that failed, and other commands, do not. Reads that go from fabric memory straight \
      to the host are not counted.
      """),
    Clause(
      "IO-74", .must, .unit, of: .blockIO, in: "Control calls",
      """
      What cannot be done has an errno and no effect: an unknown code, and one of a vendor that \
      the unit does not know, ENOTTY; a payload of another length EINVAL; another block size \
      than the volume has EINVAL, and any for a host that may only read EROFS; sanitise \
      EOPNOTSUPP.
      """),
    Clause(
      "IO-75", .must, .host, of: .blockIO, in: "Control calls",
      """
      After a connection is lost a host sends calls again over another one, those of vendors \
      aside: they end with EIO.
      """),
  ]
}
