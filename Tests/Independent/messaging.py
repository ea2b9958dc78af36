"""A push-push channel over an RDMA stream (Messaging.md): credit, buffers, transfers, pushes."""
from __future__ import annotations

import hmac
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import iwarp
from openings import HEADROOM, Opening, Options, Refusal, Violation, parse_hello, proof
from sending import (CHALLENGE, CLOSE, CREDIT, HEADER, HELLO, NONE, OPEN, OPENED, PUSH_BIT, PUSHED,
                     REFUSED, RETURN, USER, Sender)

OPENING_SECONDS, CLOSE_SECONDS = 5.0, 1.0  # MS-4, MS-10


class Closed(Exception):
    """The peer closed the channel in order (MS-10)."""


@dataclass
class Taken:
    """A user message that came; `buffer` and `data` are set when it is a transfer."""
    kind: int
    tag: int
    payload: bytes
    buffer: int | None = None
    data: memoryview = field(default_factory=lambda: memoryview(b""))


@dataclass
class Pushed:
    """The end of a push (MS-9)."""
    tag: int


class Channel(Sender):
    """One side of a channel, over a stream that has just been made."""

    def __init__(self, stream: iwarp.Stream, options: Options):
        super().__init__(stream, options)
        stream.message_limit = options.receive_bytes
        self.region = stream.register(options.buffers * (HEADROOM + options.buffer_bytes))
        self._held: deque[iwarp.Message | iwarp.Immediate] = deque()
        self._failure: Violation | Closed | None = None  # told once what came before was taken
        self._interval = 0.0
        self._last_heard = time.monotonic()

    # The opening

    def _ours(self, greeting: bytes) -> Opening:
        mine = self.options
        return Opening(mine.receives, mine.receive_bytes, mine.buffers, self.region.address,
                       self.region.tag, mine.buffer_bytes, int(mine.immediates),
                       mine.heartbeat_ms, greeting)

    def _await(self, deadline: float, *types: int) -> tuple[int, int, bytes]:
        """Type, kind and body of the next message, which must have one of the types (MS-4)."""
        while not self._held:
            if (left := deadline - time.monotonic()) <= 0:
                raise Violation("the peer did not say its opening in time")
            self._held.extend(self.stream.pump(left))
        event = self._held.popleft()
        if not isinstance(event, iwarp.Message) or len(event.data) < HEADER.size:
            raise Violation("what came in place of an opening is no message")
        type_, buffers, kind, _, reposted, *back = HEADER.unpack_from(event.data)
        if type_ not in types:
            raise Violation(f"a message of type {type_} came in place of an opening")
        if buffers or reposted > self._sent or back != [NONE, NONE]:
            raise Violation("an opening names buffers or receives that cannot be")
        self._came += 1
        return type_, kind, event.data[HEADER.size:]

    def _established(self, peer: Opening) -> None:
        self.peer = peer
        self._free.extend(range(peer.buffers))
        intervals = [self.options.heartbeat_ms] if self.options.heartbeat_ms else []
        intervals += [max(peer.heartbeat_ms, 100)] if peer.heartbeat_ms else []
        self._interval = min(intervals, default=0) / 1000  # MS-11
        self._last_heard = time.monotonic()

    def open(self, greeting: bytes, key: tuple[str, bytes] | None = None,
             judge: Callable[[bytes], None] = lambda greeting: None) -> bytes:
        """The initiator's part (MS-3, MS-14); the peer's greeting, once `judge` took it.

        Raises `Refusal` for what is final, so when the acceptor does not prove the key (MS-17).
        """
        deadline = time.monotonic() + OPENING_SECONDS
        body, parts = self._ours(greeting).pack(), []
        if key:
            name = key[0].encode()
            hello = struct.pack("<HHB3x", 1, 1, len(name)) + secrets.token_bytes(32) + name
            self._message(HELLO, body=hello)
            type_, kind, answer = self._await(deadline, CHALLENGE, REFUSED)
            self._raise_refused(type_, kind, answer)
            if len(answer) != 64:
                raise Violation("a challenge is not 64 bytes")
            parts = [hello, answer[:32]]
            if not hmac.compare_digest(proof(key[1], 1, parts), answer[32:]):
                self._message(REFUSED, kind=1, body=b"the key is not proven")
                raise Refusal("the peer does not prove the key", 1)
            parts.append(body)
            body += proof(key[1], 2, parts)
        self._message(OPEN, body=body)
        type_, kind, answer = self._await(deadline, OPENED, REFUSED)
        self._raise_refused(type_, kind, answer)
        if key:
            answer, proven = answer[:-32], answer[-32:]
            if not hmac.compare_digest(proof(key[1], 3, parts + [answer]), proven):
                raise Refusal("the peer does not prove the key", 1)
        try:
            peer = Opening.unpack(answer, answer=True)
        except Refusal as refusal:
            raise Violation(f"the answer to the opening is bad: {refusal}") from refusal
        judge(peer.greeting)
        self._established(peer)
        return peer.greeting

    @staticmethod
    def _raise_refused(type_: int, kind: int, body: bytes) -> None:
        if type_ == REFUSED:
            raise Refusal(body.decode(errors="replace"), kind)

    def accept(self, deadline: float, decide: Callable[[bytes, str | None], bytes],
               keys: dict[str, bytes] | None = None) -> None:
        """The acceptor's part; `decide` makes the greeting's answer or raises `Refusal`."""
        try:
            type_, _, body = self._await(deadline, OPEN, HELLO)
            name, parts, key = None, [], b""
            if (type_ == HELLO) != (keys is not None):  # MS-17
                raise Refusal("this unit takes only hosts that prove a key" if keys is not None
                              else "this unit takes only hosts without a key", 1)
            if keys is not None:
                name = parse_hello(body)
                key = keys.get(name) or secrets.token_bytes(32)  # MS-16
                parts = [body, secrets.token_bytes(32)]
                self._message(CHALLENGE, body=parts[1] + proof(key, 1, parts))
                type_, _, body = self._await(deadline, OPEN, REFUSED)
                if type_ == REFUSED:
                    raise Closed("the host does not take this unit's proof")
                body, proven = body[:-32], body[-32:]
                parts.append(body)
                if not hmac.compare_digest(proof(key, 2, parts), proven) or name not in keys:
                    raise Refusal("no such key is known, or it is not proven", 1)
            peer = Opening.unpack(body, answer=False)
            answer = self._ours(decide(peer.greeting, name)).pack()
            if keys is not None:
                answer += proof(key, 3, parts + [answer])
        except Refusal as refusal:
            self._message(REFUSED, kind=refusal.kind, body=str(refusal).encode()[:200])
            raise
        self._message(OPENED, body=answer)
        self._established(peer)

    # What comes

    def pump(self, seconds: float) -> list[Taken | Pushed]:
        """Sends what waits, beats, and takes what came; waits at most `seconds`."""
        if self._failure:
            raise self._failure
        self._send_waiting()
        now = time.monotonic()
        if self._interval:
            due = min(self._last_sent, self._last_heard) + self._interval
            seconds = max(min(seconds, due - now, self._interval / 4), 0.005)
        came = list(self._held) or self.stream.pump(seconds)
        self._held.clear()
        events = []
        for event in came:
            self._last_heard = time.monotonic()
            try:
                taken = self._event(event)
            except (Violation, Closed) as error:
                self._failure = error
                return events
            if taken:
                events.append(taken)
        self._send_waiting()
        self._beat()
        return events

    def _event(self, event: iwarp.Message | iwarp.Immediate) -> Taken | Pushed | None:
        self._came += 1
        if self._came > self.options.receives + self._told:
            raise Violation("more messages came than receives were posted")
        if isinstance(event, iwarp.Immediate):
            return self._immediate(event)
        return self._take(event.data)

    def _beat(self) -> None:
        """MS-11: beats, and finds a peer dead that was not heard for five intervals."""
        now = time.monotonic()
        if not self._interval:
            return
        if now - self._last_heard > 5 * self._interval:
            raise iwarp.StreamEnded("the peer was not heard for five intervals")
        if now - self._last_sent >= self._interval and self._credit() > 0:
            self._message(CREDIT)

    def _read_header(self, message: bytes) -> tuple[int, int, int, int]:
        """Type, buffers, kind and tag of a message; its credit and buffers are taken."""
        if len(message) < HEADER.size:
            raise Violation("a message is shorter than its header")
        type_, buffers, kind, tag, reposted, *back = HEADER.unpack_from(message)
        if not OPEN <= type_ <= CHALLENGE:
            raise Violation(f"a message has the unknown type {type_}")
        if buffers > 1 or buffers and type_ != USER:
            raise Violation(f"a message of type {type_} names {buffers} buffers")
        grown = (reposted - self._granted) & 0xFFFFFFFF
        if self._granted + grown > self._sent:
            raise Violation("more receives were reposted than messages were sent")
        self._granted += grown
        for buffer in back:
            if buffer != NONE:
                self._take_back(buffer)
        return type_, buffers, kind, tag

    def _take_back(self, buffer: int) -> None:
        if buffer not in self._lent:
            raise Violation(f"buffer {buffer} came back, which was not filled")
        self._lent.remove(buffer)
        self._free.append(buffer)

    def _take(self, message: bytes) -> Taken | Pushed | None:
        type_, buffers, kind, tag = self._read_header(message)
        body = message[HEADER.size:]
        if type_ == USER:
            if not buffers:
                return Taken(kind, tag, body)
            if len(body) < 8:
                raise Violation("the name of a buffer is cut short")
            buffer, zero, count = struct.unpack_from("<HHI", body)
            if zero:
                raise Violation("a reserved field of a buffer's name is not 0")
            return self._filled_now(buffer, count, kind, tag, body[8:])
        if type_ == PUSHED:
            if tag & PUSH_BIT:
                raise Violation("the tag of a push has its highest bit set")
            return Pushed(tag)
        if type_ == RETURN:
            count = int.from_bytes(body[:8], "little")
            if len(body) < 8 or len(body) != 8 + 2 * count:
                raise Violation("a buffer return has not the length that it says")
            for (buffer,) in struct.iter_unpack("<H", body[8:]):
                self._take_back(buffer)
            return None
        if type_ == CLOSE:
            raise Closed("the peer closed the channel")
        if type_ != CREDIT:
            raise Violation(f"a message of type {type_} is out of place on an open channel")
        return None

    def _filled_now(self, buffer: int, count: int, kind: int, tag: int, payload: bytes) -> Taken:
        """A transfer into a buffer of ours (MS-6)."""
        size = self.options.buffer_bytes
        if buffer >= self.options.buffers or self._filled[buffer]:
            raise Violation(f"a transfer names buffer {buffer}, which is not the peer's to fill")
        if count > size:
            raise Violation(f"{count} bytes are more than a buffer has")
        self._filled[buffer] = True
        at = buffer * (HEADROOM + size) + HEADROOM
        return Taken(kind, tag, payload, buffer, memoryview(self.region.memory)[at:at + count])

    def _immediate(self, event: iwarp.Immediate) -> Taken | Pushed:
        if not self.options.immediates or event.write is None:
            raise Violation("an immediate came without a write, or unasked")
        if event.value & PUSH_BIT:
            return Pushed(event.value & ~PUSH_BIT)
        buffer, head = event.value & 0xFFFF, event.value >> 16
        size, (key, offset, count) = self.options.buffer_bytes, event.write
        if buffer >= self.options.buffers or not HEADER.size <= head <= min(HEADROOM, count):
            raise Violation("an immediate names no buffer, or bytes that cannot be")
        at = buffer * (HEADROOM + size) + HEADROOM - head
        if key != self.region.tag or offset != self.region.address + at:
            raise Violation("a write with immediate is not where its buffer is")
        message = bytes(self.region.memory[at:at + head])
        type_, buffers, kind, tag = self._read_header(message)
        if type_ != USER or buffers:
            raise Violation("the header of a transfer is none of a user message's")
        return self._filled_now(buffer, count - head, kind, tag, message[HEADER.size:])

    # The end

    def hang_up(self) -> None:
        """Closes for a reason of its own: what waits is not sent any more (MS-12)."""
        self.waiting.clear()
        self.close()

    def close(self) -> None:
        """Closes in order: what was sent before arrives (MS-10)."""
        deadline = time.monotonic() + CLOSE_SECONDS
        try:
            while self.waiting and time.monotonic() < deadline:
                self.pump(0.05)
            if self._credit() > 0:
                self._message(CLOSE)
            while time.monotonic() < deadline:
                self.stream.pump(deadline - time.monotonic())
        except (iwarp.StreamEnded, Closed, Violation):
            pass  # the peer hung up, as it should
        self.stream.finish()
