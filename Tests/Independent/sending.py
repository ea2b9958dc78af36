"""What one side of a channel sends (Messaging.md): headers, credit, transfers and pushes."""
from __future__ import annotations

import struct
import time
from collections import deque
from dataclasses import dataclass

import iwarp
from openings import HEADROOM, Opening, Options

(OPEN, OPENED, REFUSED, USER, PUSHED, CREDIT, RETURN, CLOSE, HELLO,
 CHALLENGE) = range(1, 11)  # MS-2
HEADER = struct.Struct("<BBHIIHH")  # MS-1
NONE, KEPT = 0xFFFF, 2
PUSH_BIT = 0x80000000


@dataclass
class Outgoing:
    """What waits for credit: a user message, a transfer or a push."""
    type: int
    kind: int
    tag: int
    payload: bytes
    data: bytes | None = None
    target: tuple[int, int] | None = None  # key and address of a push

class Sender:
    """The sending half of a channel, and the credit of both directions."""

    def __init__(self, stream: iwarp.Stream, options: Options):
        self.stream, self.options = stream, options
        self.peer: Opening | None = None
        self.waiting: deque[Outgoing] = deque()
        self._sent = 0  # messages, those of the opening with them (MS-5)
        self._came = 0  # messages, each reposted at once
        self._told = 0  # of these, as reported
        self._granted = 0  # receives that the peer reported as reposted
        self._filled = [False] * options.buffers  # ours, that the peer filled
        self._giving: deque[int] = deque()  # ours, to be given back
        self._free: deque[int] = deque()  # the peer's, that we may fill
        self._lent: set[int] = set()  # the peer's, that we filled
        self._last_sent = time.monotonic()

    def _header(self, type_: int, kind: int, tag: int, buffers: int) -> bytes:
        back = [self._giving.popleft() if self._giving else NONE for _ in range(2)]
        for buffer in back:
            if buffer != NONE:
                self._filled[buffer] = False
        self._told = self._came if self.peer else 0
        self._sent += 1
        self._last_sent = time.monotonic()
        return HEADER.pack(type_, buffers, kind, tag, self._told & 0xFFFFFFFF, *back)

    def _message(self, type_: int, kind: int = 0, tag: int = 0, body: bytes = b"",
                 buffers: int = 0) -> None:
        self.stream.send(self._header(type_, kind, tag, buffers) + body)

    def send(self, kind: int, tag: int, payload: bytes, data: bytes | None = None) -> None:
        """A user message, with data a transfer; waits its turn for credit and a buffer."""
        self.waiting.append(Outgoing(USER, kind, tag, payload, data))
        self._send_waiting()

    def push(self, key: int, address: int, data: bytes, tag: int) -> None:
        """Writes to the range that the peer asked for, and tells its tag (MS-9)."""
        self.waiting.append(Outgoing(PUSHED, 0, tag, b"", data, (key, address)))
        self._send_waiting()

    def write_only(self, key: int, address: int, data: bytes) -> None:
        """Writes to a range that the peer asked for, and tells nothing."""
        self.stream.write(key, address, data)

    def _credit(self) -> int:
        """Messages that the peer has receives for (MS-5)."""
        return self.peer.receives + self._granted - self._sent

    def _send_waiting(self) -> None:
        while self.waiting and self._credit() > KEPT:
            if self.waiting[0].type == USER and self.waiting[0].data is not None:
                if not self._free:
                    break
                self._transfer(self.waiting.popleft(), self._free.popleft())
                continue
            out = self.waiting.popleft()
            if out.target:
                self._push(out)
            else:
                self._message(USER, out.kind, out.tag, out.payload)
        if self._giving and not self.waiting and self._credit() > 0:
            self._return_buffers()
        if self._came - self._told >= self.options.receives // 2 and self._credit() > 0:
            self._message(CREDIT)

    def _return_buffers(self) -> None:
        """Gives buffers back of their own: two in the header, the others listed (MS-6)."""
        most = (self.peer.receive_bytes - HEADER.size - 8) // 2
        count = max(min(most, len(self._giving) - 2), 0)
        listed = [self._giving.pop() for _ in range(count)]
        for buffer in listed:
            self._filled[buffer] = False
        self._message(RETURN, body=struct.pack(f"<Q{count}H", count, *listed))

    def _transfer(self, out: Outgoing, buffer: int) -> None:
        """MS-7 where the peer understands immediates, else MS-8."""
        peer, stride = self.peer, HEADROOM + self.peer.buffer_bytes
        at = peer.address + buffer * stride + HEADROOM
        self._lent.add(buffer)
        if peer.flags & 1 & self.options.immediates:
            head = self._header(USER, out.kind, out.tag, 0) + out.payload
            self.stream.write(peer.key, at - len(head), head + out.data)
            self.stream.immediate(buffer | len(head) << 16)
        else:
            self.stream.write(peer.key, at, out.data)
            name = struct.pack("<HHI", buffer, 0, len(out.data))
            self._message(USER, out.kind, out.tag, name + out.payload, buffers=1)

    def _push(self, out: Outgoing) -> None:
        self.stream.write(*out.target, out.data)
        if self.peer.flags & 1 & self.options.immediates:
            self._sent += 1
            self._last_sent = time.monotonic()
            self.stream.immediate(PUSH_BIT | out.tag)
        else:
            self._message(PUSHED, tag=out.tag)

    def give_back(self, buffer: int) -> None:
        """Gives a buffer back that the peer filled, with the next header."""
        self._giving.append(buffer)
