"""The start-up of MPA, of both roles (IWARP.md, IW-1 to IW-9)."""
from __future__ import annotations

import socket
import struct
import time

from iwarp import Stream, StreamEnded

REQUEST, REPLY = b"MPA ID Req Frame", b"MPA ID Rep Frame"
MARKERS, CHECKSUMS, REJECTED, ENHANCED = 0x80, 0x40, 0x20, 0x10
PEER_TO_PEER, EMPTY_FPDU, EMPTY_WRITE = 0x8000, 0x4000, 0x8000  # the last in ORD's half (IW-2)
SILENCE_MS = 20000  # IW-30


class Rejected(Exception):
    """The peer rejected the connection; `private` is what it said."""

    def __init__(self, private: bytes):
        super().__init__(f"the peer rejected the connection, with {private!r}")
        self.private = private


def start_frame(key: bytes, flags: int, revision: int, private: bytes) -> bytes:
    """A start frame (IW-1)."""
    return key + struct.pack(">BBH", flags, revision, len(private)) + private


def _read_exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise StreamEnded("no start frame came in time")
        sock.settimeout(left)
        try:
            part = sock.recv(count - len(data))
        except TimeoutError:
            continue
        except OSError as error:
            raise StreamEnded(f"the connection was lost in the start-up: {error}") from error
        if not part:
            raise StreamEnded("the stream ended before a start frame had come")
        data += part
    return data


def _read_frame(sock: socket.socket, key: bytes, deadline: float) -> tuple[int, int, bytes]:
    """Flags, revision and private data of the peer's start frame; refuses what is none (IW-1)."""
    for expected in key:
        if _read_exactly(sock, 1, deadline)[0] != expected:
            raise StreamEnded("what came is no start frame of MPA")
    flags, revision = _read_exactly(sock, 2, deadline)
    if revision not in (1, 2):
        raise StreamEnded(f"MPA revision {revision} is neither 1 nor 2")
    if key == REPLY and flags & ENHANCED:
        raise StreamEnded("the reply is enhanced, the request was not")
    length = struct.unpack(">H", _read_exactly(sock, 2, deadline))[0]
    if length > 512:
        raise StreamEnded(f"{length} bytes of private data are more than 512")
    return flags, revision, _read_exactly(sock, length, deadline)


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
    # IW-30: the death of this process is to look like one
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def connect(host: str, port: int, seconds: float, checksums: bool = False) -> Stream:
    """Connects and asks in revision 1 (IW-5); raises `Rejected`, or `StreamEnded`."""
    deadline = time.monotonic() + seconds
    try:
        sock = socket.create_connection((host, port), seconds)
    except OSError as error:
        raise StreamEnded(f"cannot connect to {host}:{port}: {error}") from error
    _prepare(sock)
    try:
        sock.sendall(start_frame(REQUEST, CHECKSUMS if checksums else 0, 1, b""))
        flags, revision, private = _read_frame(sock, REPLY, deadline)
        if revision != 1:  # IW-7
            raise StreamEnded(f"asked in revision 1, answered in {revision}")
        if flags & REJECTED:
            raise Rejected(private)
    except OSError as error:
        sock.close()
        raise StreamEnded(f"the connection was lost in the start-up: {error}") from error
    except (StreamEnded, Rejected):
        sock.close()
        raise
    crc = checksums or bool(flags & CHECKSUMS)  # IW-6
    return Stream(sock, crc, bool(flags & MARKERS))


def _answer_depths(private: bytes) -> tuple[bytes, bool]:
    """What an enhanced reply says of depths, and whether the connection can be (IW-8, IW-9)."""
    ird, ord_ = struct.unpack(">HH", private[:4])
    if not ird & PEER_TO_PEER:
        return struct.pack(">HH", 0, 0), True  # no reads here: both depths are 0
    if ord_ & EMPTY_WRITE:
        return struct.pack(">HH", PEER_TO_PEER, EMPTY_WRITE), True
    if ird & EMPTY_FPDU:
        return struct.pack(">HH", PEER_TO_PEER | EMPTY_FPDU, 0), True
    return struct.pack(">HH", PEER_TO_PEER, 0), False


def accept(sock: socket.socket, seconds: float, rejection: bytes | None = None,
           checksums: bool = False) -> Stream:
    """Answers a request that comes within `seconds`: accepts, or rejects with private data."""
    _prepare(sock)
    flags, revision, private = _read_frame(sock, REQUEST, time.monotonic() + seconds)
    extra, fits, reply = b"", True, 0
    if flags & ENHANCED:
        if revision != 2 or len(private) < 4:
            raise StreamEnded("an enhanced request wants revision 2 and 4 bytes of depths")
        extra, fits = _answer_depths(private)
        reply = ENHANCED
    crc = checksums or bool(flags & CHECKSUMS)  # IW-6
    reply |= CHECKSUMS if crc else 0
    stream = Stream(sock, crc, bool(flags & MARKERS))
    if rejection is not None or not fits:
        stream.post(start_frame(REPLY, reply | REJECTED, revision, extra + (rejection or b"")))
        stream.finish()
        raise StreamEnded("the request was rejected")
    stream.post(start_frame(REPLY, reply, revision, extra))
    return stream
