"""The messages of a channel: types, header, and what a user sends and gets (Messaging.md)."""
from __future__ import annotations

import struct
from dataclasses import dataclass, field

(OPEN, OPENED, REFUSED, USER, PUSHED, CREDIT, RETURN, CLOSE, HELLO,
 CHALLENGE) = range(1, 11)  # MS-2
HEADER = struct.Struct("<BBHIIHH")  # MS-1
NONE, KEPT = 0xFFFF, 2
PUSH_BIT = 0x80000000


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


@dataclass
class Outgoing:
    """A message or push that waits for credit or a buffer."""
    type: int
    kind: int
    tag: int
    payload: bytes
    data: bytes | None = None
    target: tuple[int, int] | None = None  # key and address of a push
