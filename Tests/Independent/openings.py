"""What the openings of a channel say, and proofs of keys (Messaging.md, MS-3, MS-14 to MS-17)."""
from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

OPENING = struct.Struct("<HHIIIQIIIHHII")  # MS-3, behind the header
HEADROOM = 4096  # MS-6


class Violation(Exception):
    """The peer broke a rule of the channel (MS-12); the words name it."""


class Refusal(Exception):
    """An opening is refused, with words; `kind` is 1 for want of a key (MS-17)."""

    def __init__(self, words: str, kind: int = 0):
        super().__init__(words)
        self.kind = kind


@dataclass
class Options:
    """What a side offers."""
    receives: int = 256
    receive_bytes: int = 512
    buffers: int = 0
    buffer_bytes: int = 0
    heartbeat_ms: int = 2000
    immediates: bool = True


@dataclass
class Opening:
    """What `open` and `opened` say (MS-3)."""
    receives: int
    receive_bytes: int
    buffers: int
    address: int
    key: int
    buffer_bytes: int
    flags: int
    heartbeat_ms: int
    greeting: bytes

    def pack(self) -> bytes:
        """The bytes behind the header, in version 1 alone."""
        return OPENING.pack(1, 1, self.receives, self.receive_bytes, self.buffers, self.address,
                            self.key, self.buffer_bytes, self.flags, len(self.greeting), 0,
                            self.heartbeat_ms, 0) + self.greeting

    @staticmethod
    def unpack(body: bytes, answer: bool) -> Opening:
        """Checks all of an opening (MS-4); raises `Refusal`."""
        if len(body) < OPENING.size:
            raise Refusal("an opening is shorter than its fields")
        (low, high, receives, receive_bytes, buffers, address, key, buffer_bytes, flags, length,
         zero, heartbeat, zeroes) = OPENING.unpack_from(body)
        greeting = body[OPENING.size:]
        if not low <= 1 <= high:
            raise Refusal(f"versions {low} to {high} are offered, this side speaks version 1")
        if answer and (low, high) != (1, 1):
            raise Refusal(f"the answer chooses no version, but says {low} to {high}")
        for name, value, least, most in (
                ("receives", receives, 8, 16384), ("bytes of a receive", receive_bytes, 256, 65536),
                ("buffers", buffers, 0, 4096), ("bytes of a buffer", buffer_bytes, 0, 16 << 20),
                ("bytes of greeting", length, 0, 160)):
            if not least <= value <= most:
                raise Refusal(f"{value} is out of range for {name}: {least} to {most}")
        if length != len(greeting):
            raise Refusal(f"{length} bytes of greeting are told, {len(greeting)} came")
        if zero or zeroes:
            raise Refusal("a reserved field of the opening is not 0")
        if address + buffers * (HEADROOM + buffer_bytes) > 1 << 64:
            raise Refusal("the buffers reach beyond the last address")
        return Opening(receives, receive_bytes, buffers, address, key, buffer_bytes, flags,
                       heartbeat, greeting)


def proof(key: bytes, step: int, parts: list[bytes]) -> bytes:
    """A proof of the key over all that was said so far (MS-15)."""
    said = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    text = b"ChannelFabric key 1" + bytes([step]) + said
    return hmac.new(key, text, hashlib.sha256).digest()


def parse_hello(body: bytes) -> str:
    """The key's name in a `hello` (MS-14)."""
    if len(body) < 40:
        raise Violation("a hello is shorter than its fields")
    low, high, length, zero = struct.unpack_from("<HHB3s", body)
    if not low <= 1 <= high:
        raise Refusal(f"versions {low} to {high} are offered, this side speaks version 1")
    try:
        name = body[40:].decode()
    except UnicodeDecodeError as error:
        raise Violation("a key's name is not UTF-8") from error
    if zero != bytes(3) or not 1 <= length <= 64 or length != len(body) - 40:
        raise Violation("a hello has a reserved byte or a wrong length of its name")
    if any(letter.isspace() or not letter.isprintable() for letter in name):
        raise Violation("a key's name has white space or control characters")
    return name
