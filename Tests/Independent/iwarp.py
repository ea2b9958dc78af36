"""RDMA over TCP, the part that a push-push channel needs (IWARP.md): FPDUs, DDP and RDMAP.

A `Stream` posts sends, RDMA writes and immediate data, and takes the same from its peer. Writes of
the peer go into bytearrays registered with `register`. No RDMA reads: whoever asks is terminated.
"""
from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass

WRITE = 0
SEND, SEND_KINDS, TERMINATE, IMMEDIATES = 3, (3, 4, 5, 6), 7, (8, 9)
SEGMENT_BYTES = 32768  # of payload in one FPDU; the length field allows 65535 in all


class StreamEnded(Exception):
    """The stream is over; the words say why."""


class Fault(Exception):
    """The peer broke a rule: layer and type, and code, of the terminate message, and words."""

    def __init__(self, layer_type: int, code: int, words: str):
        super().__init__(words)
        self.layer_type, self.code = layer_type, code


@dataclass
class Message:
    """A send of the peer's, whole."""
    data: bytes


@dataclass
class Immediate:
    """Immediate data; `write` is (tag, offset, bytes) of the RDMA write right before, if any."""
    value: int
    write: tuple[int, int, int] | None


@dataclass
class Region:
    """Memory that the peer may write to, by its steering tag and from `address` on."""
    tag: int
    address: int
    memory: bytearray


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), a byte at a time."""
    table, crc = _CRC_TABLE, 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Stream:
    """An established stream. Nothing blocks but `pump`, which waits as long as it is told."""

    def __init__(self, sock: socket.socket, crc: bool, markers: bool):
        sock.setblocking(False)
        self.sock, self.crc, self.markers = sock, crc, markers
        self.regions: dict[int, Region] = {}
        self._poll = select.poll()
        self._out: deque[memoryview] = deque()
        self._framed = 0  # bytes of FPDUs posted, for markers (IW-4)
        self._in = bytearray()
        self._next_sent = 1  # IW-13, of sends and immediates
        self._next_taken = 1
        self._partial: tuple[int, bytearray] | None = None  # opcode and bytes of an unfinished send
        self._writing: tuple[int, int, int] | None = None  # an unfinished write
        self._written: tuple[int, int, int] | None = None  # a write right before (IW-34)
        self._failure: StreamEnded | None = None  # told once what came before it was taken
        self.message_limit = 65536

    def register(self, size: int) -> Region:
        """Memory that the peer may write to as long as the stream lives."""
        tag = secrets.randbelow(0xFFFFFFFF) + 1
        region = Region(tag, (secrets.randbelow(1 << 30) + 1) << 12, bytearray(size))
        self.regions[tag] = region
        return region

    # What is sent

    def send(self, data: bytes) -> None:
        """A send, in as many segments as it takes (IW-10, IW-14)."""
        for start in range(0, max(len(data), 1), SEGMENT_BYTES):
            part = data[start:start + SEGMENT_BYTES]
            last = start + len(part) == len(data)
            self._untagged(SEND, 0, self._next_sent, start, last, part)
        self._next_sent += 1

    def immediate(self, value: int) -> None:
        """Immediate data (IW-33)."""
        self._untagged(IMMEDIATES[0], 0, self._next_sent, 0, True, struct.pack(">Q", value))
        self._next_sent += 1

    def write(self, tag: int, offset: int, data: bytes) -> None:
        """An RDMA write into the peer's memory."""
        for start in range(0, max(len(data), 1), SEGMENT_BYTES):
            part = data[start:start + SEGMENT_BYTES]
            last = 0x40 if start + len(part) == len(data) else 0
            header = struct.pack(">BBIQ", 0x81 | last, 0x40 | WRITE, tag, offset + start)
            self._fpdu(header + part)

    def _untagged(self, opcode: int, queue: int, number: int, offset: int, last: bool,
                  data: bytes) -> None:
        first = 0x41 if last else 0x01
        header = struct.pack(">BBIIII", first, 0x40 | opcode, 0, queue, number & 0xFFFFFFFF, offset)
        self._fpdu(header + data)

    def _fpdu(self, segment: bytes) -> None:
        """Frames a segment (IW-3), with markers where the peer wants them (IW-4)."""
        frame = struct.pack(">H", len(segment)) + segment
        frame += bytes(-len(frame) % 4)
        if self.markers:
            frame = self._with_markers(frame)
        frame += struct.pack("<I", crc32c(frame)) if self.crc else bytes(4)
        self._framed += len(frame)
        self.post(frame)

    def _with_markers(self, frame: bytes) -> bytes:
        marked, taken = bytearray(), 0
        while taken < len(frame) or (self._framed + len(marked)) % 512 == 0:
            if (self._framed + len(marked)) % 512 == 0:
                # from the length field on; in front of it stands a marker with 0
                start = 4 if self._framed % 512 == 0 else 0
                marked += struct.pack(">HH", 0, max(len(marked) - start, 0))
            room = 512 - (self._framed + len(marked)) % 512
            marked += frame[taken:taken + room]
            taken += room
        return bytes(marked)

    def post(self, data: bytes) -> None:
        """Queues bytes for the socket and sends what it takes at once (IW-40)."""
        self._out.append(memoryview(data))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self.sock.sendmsg(list(self._out)[:8])
                while sent and self._out:
                    if sent < len(self._out[0]):
                        self._out[0] = self._out[0][sent:]
                        break
                    sent -= len(self._out.popleft())
        except BlockingIOError:
            pass
        except OSError as error:
            self._out.clear()
            raise StreamEnded(f"the connection was lost: {error}") from error

    # What comes

    def pump(self, seconds: float) -> list[Message | Immediate]:
        """Sends what waits and takes what has come; waits at most `seconds` for either."""
        if self._failure:
            raise self._failure
        self._poll.register(self.sock, select.POLLIN | (select.POLLOUT if self._out else 0))
        ready = self._poll.poll(max(seconds, 0) * 1000)
        if ready and ready[0][1] & select.POLLOUT:
            self._flush()
        if not ready or not ready[0][1] & ~select.POLLOUT:
            return []
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError as error:
            raise StreamEnded(f"the connection was lost: {error}") from error
        if not data:
            raise StreamEnded("the peer ended the stream")
        self._in += data
        events = self._parse()
        if self._failure and not events:
            raise self._failure
        return events

    def _parse(self) -> list[Message | Immediate]:
        """Takes all whole FPDUs (IW-3, IW-18)."""
        events: list[Message | Immediate] = []
        start, have = 0, len(self._in)
        with memoryview(self._in) as view:
            while have - start >= 2 and not self._failure:
                length = (view[start] << 8) | view[start + 1]
                end = start + ((2 + length + 3) & ~3)
                if have < end + 4:
                    break
                try:
                    self._take(view[start:end], view[end:end + 4],
                               view[start + 2:start + 2 + length], events)
                except StreamEnded as ended:
                    self._failure = ended
                start = end + 4
        self._in = self._in[start:]
        return events

    def _take(self, frame: memoryview, checksum: memoryview, segment: memoryview,
              events: list[Message | Immediate]) -> None:
        header = b""
        try:
            if self.crc and crc32c(frame) != int.from_bytes(checksum, "little"):
                raise Fault(0x20, 2, "the checksum of an FPDU is wrong")
            if not segment:
                return  # an empty FPDU opens a peer-to-peer connection (IW-9)
            header = bytes(segment[:14 if segment[0] & 0x80 else 18])
            if segment[0] & 0x80:
                self._take_tagged(segment)
            else:
                self._take_untagged(segment, events)
        except Fault as fault:
            self._terminate(fault, len(segment), header)
            raise StreamEnded(f"the peer broke a rule of iWARP: {fault}") from fault

    def _take_tagged(self, segment: memoryview) -> None:
        if len(segment) < 14:
            raise Fault(0x12, 6, "a tagged segment is shorter than its header")
        control, rdmap, tag, offset = struct.unpack(">BBIQ", segment[:14])
        if control & 3 != 1:
            raise Fault(0x11, 4, "a segment is of another version of DDP")
        if rdmap >> 6 != 1:
            raise Fault(0x02, 5, "a segment is of another version of RDMAP")
        if rdmap & 15 != WRITE or self._partial:  # nothing was read: IW-11, IW-14, IW-16
            raise Fault(0x02, 6, f"opcode {rdmap & 15} was not expected in a tagged segment")
        count = len(segment) - 14
        if offset + count > 1 << 64:  # IW-15
            raise Fault(0x11, 3, "a tagged segment reaches beyond the last offset")
        if count:
            region = self.regions.get(tag)
            if region is None:
                raise Fault(0x11, 0, f"the steering tag {tag:#x} is not one of this stream's")
            start = offset - region.address
            if start < 0 or start + count > len(region.memory):
                raise Fault(0x11, 1, "a write goes beyond the memory of its steering tag")
            region.memory[start:start + count] = segment[14:]
        first = self._writing or (tag, offset, 0)
        if tag != first[0] or offset != first[1] + first[2]:  # IW-14
            raise Fault(0x02, 6, "the segments of a write have a gap")
        done = (tag, first[1], first[2] + count)
        self._writing, self._written = (None, done) if control & 0x40 else (done, None)

    def _take_untagged(self, segment: memoryview, events: list[Message | Immediate]) -> None:
        if len(segment) < 18:
            raise Fault(0x12, 6, "an untagged segment is shorter than its header")
        control, rdmap, _, queue, number, offset = struct.unpack(">BBIIII", segment[:18])
        opcode, data, last = rdmap & 15, bytes(segment[18:]), bool(control & 0x40)
        if control & 3 != 1:
            raise Fault(0x12, 6, "a segment is of another version of DDP")
        if rdmap >> 6 != 1:
            raise Fault(0x02, 5, "a segment is of another version of RDMAP")
        if opcode == TERMINATE and queue == 2:
            raise StreamEnded(f"the peer ended the stream with the terminate message {data.hex()}")
        if queue > 2:
            raise Fault(0x12, 1, f"there is no queue {queue}")
        if opcode not in SEND_KINDS + IMMEDIATES or queue != 0 or self._writing:  # IW-12
            raise Fault(0x02, 6, f"opcode {opcode} was not expected in queue {queue}")
        if number != self._next_taken & 0xFFFFFFFF:  # IW-13
            raise Fault(0x12, 3, f"message {number} came in place of {self._next_taken}")
        before, self._written = self._written, None
        known, parts = self._partial or (opcode, bytearray())
        if opcode != known or opcode in IMMEDIATES and not (last and len(data) == 8):  # IW-14
            raise Fault(0x02, 6, "a segment does not fit its message")
        if offset != len(parts):
            raise Fault(0x12, 4, "the segments of a message have a gap")
        if len(parts) + len(data) > self.message_limit:
            raise Fault(0x12, 5, "a message is longer than its receive")
        parts += data
        self._partial = None if last else (opcode, parts)
        if last:
            self._next_taken += 1
            value = int.from_bytes(parts[4:8], "big")  # IW-33
            message = Immediate(value, before) if opcode in IMMEDIATES else Message(bytes(parts))
            events.append(message)

    # The end

    def _terminate(self, fault: Fault, length: int, header: bytes) -> None:
        """Tells the peer what it did wrong (IW-21)."""
        follows = struct.pack(">HH", 0xC000, length) + header if header else bytes(2)
        data = bytes([fault.layer_type, fault.code]) + follows
        try:
            self._untagged(TERMINATE, 2, 1, 0, True, data)
        except StreamEnded:
            pass  # the fault is what is told

    def finish(self, seconds: float = 2.0) -> None:
        """Ends the stream in order: sends what waits, then drops what still comes (IW-31)."""
        deadline, shut = time.monotonic() + seconds, False
        try:
            while (left := deadline - time.monotonic()) > 0:
                if not self._out and not shut:
                    self.sock.shutdown(socket.SHUT_WR)
                    shut = True
                self._poll.register(self.sock, select.POLLIN | (select.POLLOUT if self._out else 0))
                if not self._poll.poll(left * 1000):
                    continue
                self._flush()
                if not self._dropped() and shut:
                    # both directions are over: what is unacknowledged is still sent
                    linger = struct.pack("ii", 0, 0)
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    break
        except (OSError, StreamEnded):
            pass  # it is over already
        self.sock.close()

    def _dropped(self) -> bool:
        """Reads and drops; whether the peer's direction goes on."""
        try:
            return bool(self.sock.recv(1 << 16))
        except BlockingIOError:
            return True
