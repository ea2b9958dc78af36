extension Clause {
  /// The clauses of `Specs/Messaging.md`, in its words and order.
  static let messaging: [Clause] = [
    Clause(
      "MS-1", .must, .both, of: .messaging, in: "Messages",
      """
      Integers are little-endian. Every message begins with 16 bytes: type (1), buffers named \
      behind the header (1: 0 or 1), kind (2) and tag (4), both the user's, receives reposted in \
      all (4, wrapping), two buffers given back (2 each, 0xffff for none). Only a message of the \
      user's names a buffer; kind and tag of the channel's own are 0 and not looked at, where \
      nothing else is said. A shorter message, an unknown type or a count above 1 is a violation \
      (MS-12).
      """),
    Clause(
      "MS-2", .must, .both, of: .messaging, in: "Messages",
      """
      Types: 1 open, 2 opened, 3 refused, 4 user, 5 pushed, 6 credit, 7 buffer return, 8 close, \
      9 hello, 10 challenge.
      """),
    Clause(
      "MS-3", .must, .both, of: .messaging, in: "Messages",
      """
      The initiator sends `open`, once; the acceptor answers `opened`, or `refused` with the \
      reason as text behind the header, at most 240 bytes. A fabric may tell the acceptor of its \
      connection after the `open` has come: that is not out of place. `opened` has the version \
      that was chosen as lowest and highest. Flags and fields that are 0 are not looked at. A \
      side uses immediates where the peer's flag is set. Behind the header of `open` and \
      `opened`, by offset in the message:
      """),
    Clause(
      "MS-4", .must, .both, of: .messaging, in: "Messages",
      """
      Nothing in an opening is trusted. Limits out of range or a version range without 1 are \
      refused in words; before the opening nothing but the opening is accepted. An opening takes \
      at most 5 s, and at most 256 peers of one endpoint may have connected without having \
      opened their channel: of more the one that came first is cut off.
      """),
    Clause(
      "MS-5", .must, .both, of: .messaging, in: "Messages",
      """
      Receive credit: a side may have sent at most as many messages (writes with immediate \
      count, and the messages of the opening) as the peer posted receives at first plus those it \
      reported as reposted, 0 or more of them in the opening itself. Counters are cumulative, so \
      that a repeated one does no harm. The last two credits are kept for credit, buffer return, \
      heartbeat and close. A side reports once half of its window is untold.
      """),
    Clause(
      "MS-6", .must, .both, of: .messaging, in: "Messages",
      """
      Buffer credit: the advertised buffers lie side by side, each 4096 bytes of headroom and \
      then its data; addresses are the fabric's, as a write names them. The sender picks any \
      free one; the receiver gives them back in any order, two in every header or a list in a \
      buffer return: count (8) behind the header, then the numbers (2 each).
      """),
    Clause(
      "MS-7", .must, .both, of: .messaging, in: "Messages",
      """
      A transfer with immediates is one write: header and payload right before the buffer's \
      data, in the headroom, then the data; the header names 0 buffers. Immediate: bits 0 to 15 \
      the buffer, 16 to 30 the bytes of header and payload, bit 31 clear.
      """),
    Clause(
      "MS-8", .must, .both, of: .messaging, in: "Messages",
      """
      Without immediates the data is written first; a user message with one buffer follows, and \
      names it behind its header: number (2), 0 (2), bytes of data (4). Then the payload.
      """),
    Clause(
      "MS-9", .must, .both, of: .messaging, in: "Messages",
      """
      A push writes to a range that the receiver asked for, and tells its tag: an immediate with \
      bit 31 set and the tag in bits 0 to 30, or a `pushed` message with that tag in its header. \
      A push's data is in place before its end is seen.
      """),
    Clause(
      "MS-10", .must, .both, of: .messaging, in: "Messages",
      """
      Close: who closes sends `close` behind what it sent before, which arrives, and nothing \
      behind it; it waits at most 1 s for the peer to hang up.
      """),
    Clause(
      "MS-11", .must, .both, of: .messaging, in: "Messages",
      """
      Heartbeat: a side that sent nothing for an interval sends `credit`. The interval is the \
      shorter one of the two openings', of which the peer's counts as 100 ms at least, and not \
      at all where it is 0; a side's own is 2 s unless its user chooses another \
      (`ChannelOptions.heartbeat`). A peer that was not heard for five intervals counts as dead, \
      which is found out within one more: with 2 s, after 10 to 12 s.
      """),
    Clause(
      "MS-12", .must, .both, of: .messaging, in: "Messages",
      """
      Violation: a malformed or misplaced message, a counter beyond the window, a buffer that is \
      not the peer's to fill or to give back. It closes this channel, with a reason that names \
      it, and nothing else happens. The reason is for the side's own user: the peer sees the \
      connection's end, before which a `close` may come.
      """),
    Clause(
      "MS-13", .should, .both, of: .messaging, in: "Messages",
      """
      A receiver may hold the credit of messages back, until it wants more: the peer sends what \
      its credit allows and waits. Messages of the channel's own go on, so that beats do. \
      `AsyncChannel` does so from a mebibyte unread on.
      """),
    Clause(
      "MS-18", .must, .unit, of: .messaging, in: "Messages",
      """
      An acceptor that has no room for a channel now, or that does not listen any more, rejects \
      the fabric's connection. The private data is 2 (1) and the reason as text, together at \
      most 256 bytes. Asking again may help; what else a rejection says is final.
      """),
    Clause(
      "MS-14", .must, .both, of: .messaging, in: "Keys",
      """
      Two messages go before the opening: the initiator's `hello` and the acceptor's \
      `challenge`. `open` and `opened` then end with a proof (32), behind the greeting. Behind \
      the header of `challenge`: nonce (32), proof (32). Of `hello`:
      """),
    Clause(
      "MS-15", .must, .both, of: .messaging, in: "Keys",
      """
      A proof is the HMAC-SHA-256 (RFC 2104), with the key, of: `ChannelFabric key 1`; the step \
      (1): 1 in `challenge`, 2 in `open`, 3 in `opened`; then every part said so far, by either \
      side, each behind its length (4). The parts: what lies behind the header of `hello`; the \
      acceptor's nonce; what lies behind the header of `open`, and of `opened`, each without its \
      proof. So a proof is good for one connection, one direction, one place, and exactly these \
      limits, buffers, keys and names.
      """),
    Clause(
      "MS-16", .must, .both, of: .messaging, in: "Keys",
      """
      Nonces are new and random. Proofs are compared in a time that does not tell where they \
      differ. The initiator sends its `open` only when the challenge's proof is right; the \
      acceptor reads it, makes its buffers and asks its user only when the proof of `open` is. \
      Whoever has no key learns no greeting, no buffer and no remote key, and costs the receives \
      and sends of one channel for at most 5 s. To a name that has no key the acceptor answers \
      with a key that it makes up.
      """),
    Clause(
      "MS-17", .must, .both, of: .messaging, in: "Keys",
      """
      A refusal for want of a key has kind 1; it goes in either direction: an initiator that \
      finds the challenge's proof wrong sends one, too. Its words do not tell a wrong key from \
      an unknown name. Nobody goes on without a key instead, and asking again does not help.
      """),
  ]
}
