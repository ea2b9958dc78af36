#!/usr/bin/env python3
"""A host (IOProtocol.md): writes blocks of a volume, reads them back and compares.

    host.py fabric+tcp://HOST:PORT/VOLUME [--seconds S]
    host.py list fabric+tcp://HOST:PORT

A connection that is lost is made again with a greater epoch, and what was under way on it is sent
again once the unit has said that it is fenced (IO-37).
"""
from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import blocks as b
import iwarp
import messaging as m
import mpa
from openings import Options, Refusal, Violation

NAME, DEPTH, CHUNK, MOST_BYTES = "python:host", 16, 16384, 1 << 20
CALLS = 16  # under way at once (IO-70)
NO_ROOM = bytes([2])  # of a rejection: asking again may help, else it is final (MS-18)
Key = tuple[str, bytes] | None


class Failed(Exception):
    """The host gives up, with words."""


@dataclass(eq=False)
class Request:
    """A command, or a control call where `code` is set, until its end."""
    opcode: int = 0
    first: int = 0
    count: int = 0
    data: bytes = b""
    code: int = 0
    status: int | None = None


@dataclass
class Lost:
    """A connection that was lost, and the commands that were under way on it."""
    epoch: int
    number: int
    commands: dict[int, Request]


@dataclass
class Link:
    """A connection to the unit."""
    channel: m.Channel
    opening: b.UnitOpening
    memory: iwarp.Region
    epoch: int
    path: int
    ready: bool = False
    fencing: Lost | None = None
    commands: dict[int, Request] = field(default_factory=dict)
    calls: dict[int, Request] = field(default_factory=dict)
    next_call: int = 0  # the tag of the next control call


def own_name(key: Key) -> str:
    """What the host calls itself: as its key is called, if it has one (IO-17)."""
    return key[0] if key else NAME


def connect(host: str, port: int, greeting: b.HostOpening, key: Key, memory_bytes: int) -> Link:
    """Connects and opens the channel; what the unit says is checked (IO-2, IO-15)."""
    stream = mpa.connect(host, port, m.OPENING_SECONDS)
    memory = stream.register(memory_bytes)
    channel = m.Channel(stream, Options())
    answers: list[b.UnitOpening] = []

    def judge(answer: bytes) -> None:
        answers.append(b.UnitOpening.unpack(answer, not greeting.volume))
        if greeting.writes and not answers[0].writes and greeting.volume:
            raise b.Malformed("writing was asked for, and the unit allows reading only")

    try:
        channel.open(greeting.pack(), key, judge)
    except (Refusal, Violation, b.Malformed, iwarp.StreamEnded):
        stream.finish()
        raise
    return Link(channel, answers[0], memory, greeting.epoch, answers[0].path)


class Host:
    """A session with a volume, over one connection at a time."""

    def __init__(self, host: str, port: int, volume: str, seconds: float, key: Key):
        self.host, self.port, self.volume, self.seconds, self.key = host, port, volume, seconds, key
        self.session = (secrets.randbits(64), secrets.randbits(64))
        self.epoch = 0
        self.link: Link | None = None
        self.lost: list[Lost] = []
        self.pending: deque[Request] = deque()  # commands
        self.calls: deque[Request] = deque()  # control calls: they have no order with those (IO-70)
        self.generations = [0] * DEPTH  # of the slots (IO-22)
        self.wait = 0.1
        self.progress = time.monotonic()

    def perform(self, requests: list[Request]) -> None:
        """Carries requests out; raises `Failed` when one ends badly."""
        self.pending.extend(requests)
        self.await_ends(requests)
        for request in requests:
            if request.status != b.SUCCESS:
                raise Failed(f"a request for block {request.first} ended with "
                             f"{b.STATUSES[request.status]}")

    def await_ends(self, requests: list[Request]) -> None:
        """Waits for ends; raises `Failed` when none has come for `seconds`."""
        self.progress = time.monotonic()
        words = "no answer came"
        while any(request.status is None for request in requests):
            if time.monotonic() - self.progress > self.seconds:
                raise Failed(f"gave up after {self.seconds} s: {words}")
            try:
                if not self.link:
                    self.connect()
                self.step(self.link)
            except (iwarp.StreamEnded, Violation, b.Malformed, m.Closed, mpa.Rejected) as error:
                words = str(error)
                print(f"the connection is over: {words}", file=sys.stderr)
                self.lose()
                time.sleep(self.wait)
                self.wait = min(self.wait * 2, 2.0)  # IO-37

    def connect(self) -> None:
        """A new connection, with a greater epoch, which fences those before (IO-14)."""
        self.epoch += 1
        greeting = b.HostOpening(True, self.volume, self.session, self.epoch, DEPTH,
                                 own_name(self.key), 0)
        try:
            self.link = connect(self.host, self.port, greeting, self.key, DEPTH * CHUNK)
        except Refusal as refusal:
            raise Failed(f"the unit refuses: {refusal}") from refusal
        except mpa.Rejected as rejected:
            if rejected.private[:1] != NO_ROOM:
                raise Failed(str(rejected)) from rejected
            raise

    def lose(self) -> None:
        """Keeps what was under way until the unit has fenced the connection (IO-37)."""
        link, self.link = self.link, None
        if not link:
            return
        if link.commands:
            self.lost.append(Lost(link.epoch, 0, link.commands))
        self.calls.extendleft(reversed(link.calls.values()))  # IO-75
        link.channel.stream.finish()

    def close(self) -> None:
        """Closes the channel in order."""
        if self.link:
            self.link.channel.close()

    def step(self, link: Link) -> None:
        """Sends what may be sent, and takes what comes."""
        if link.ready:
            while self.calls and len(link.calls) < CALLS:
                self.call(link, self.calls.popleft())
            if self.lost and not link.fencing:
                link.fencing = self.lost[0]
                fence = b.Fence(self.lost[0].epoch, 0, list(self.lost[0].commands))
                link.channel.send(b.FENCE, 0, fence.pack())
            while self.pending and not self.lost and link.path != b.INACCESSIBLE:
                if len(link.commands) >= min(link.opening.depth, DEPTH):
                    break
                self.submit(link, self.pending.popleft())
        for event in link.channel.pump(0.05):
            if isinstance(event, m.Pushed):
                self.pushed(link, event.tag)
            else:
                self.take(link, event)

    def call(self, link: Link, request: Request) -> None:
        """Sends a control call (IO-70): no fence and no state of the path holds it back."""
        link.calls[link.next_call] = request
        link.channel.send(b.CONTROL_CALL, link.next_call, b.pack_control_call(request.code))
        link.next_call += 1

    def submit(self, link: Link, request: Request) -> None:
        """Sends a command (IO-30)."""
        slot = next(slot for slot in range(DEPTH)
                    if all(tag & 0xFFFF != slot for tag in link.commands))
        self.generations[slot] = (self.generations[slot] + 1) & 0x7FFF
        tag = self.generations[slot] << 16 | slot
        link.commands[tag] = request
        byte_count = request.count * link.opening.block_bytes
        command = b.Command(request.opcode, tag, request.first, request.count, byte_count)
        if request.opcode == b.READ:
            command.address, command.key = link.memory.address + slot * CHUNK, link.memory.tag
        data = request.data if request.opcode == b.WRITE else None
        link.channel.send(b.COMMAND, tag, command.pack(), data)

    def pushed(self, link: Link, tag: int) -> None:
        """The end of a push; one of no read under way is no end (IO-22)."""
        request = link.commands.get(tag)
        if request and request.opcode == b.READ:
            self.end(link, tag, b.SUCCESS, request.count * link.opening.block_bytes)

    def take(self, link: Link, event: m.Taken) -> None:
        """One message of the unit's (IO-20)."""
        if event.kind == b.READY and not event.payload and not link.ready:
            link.ready = True
        elif event.kind == b.RESPONSE:
            response = b.Response.unpack(event.payload)
            if response.tag != event.tag:
                raise Violation("the tag of a response is not that of its message")
            self.end(link, response.tag, response.status, response.byte_count)
        elif event.kind == b.PATH_STATE:
            link.path = b.unpack_path_state(event.payload)
        elif event.kind == b.FENCED:
            self.fenced(link, b.Fenced.unpack(event.payload))
        elif event.kind == b.CONTROL_ANSWER:
            errno = b.unpack_control_answer(event.payload)[0]
            if event.tag not in link.calls:
                raise Violation("a control call was answered that is not under way")
            self.done(link.calls.pop(event.tag), errno)
        else:
            raise Violation(f"a message of kind {event.kind} is out of place")

    def end(self, link: Link, tag: int, status: int, count: int) -> None:
        """The end of a command, if it is one (IO-22, IO-34)."""
        request = link.commands.get(tag)
        if request is None:
            return
        whole = request.count * link.opening.block_bytes
        if status == b.SUCCESS and request.opcode != b.FLUSH and count != whole:
            raise Violation(f"a command succeeded with {count} bytes of {whole}")
        del link.commands[tag]
        if request.opcode == b.READ:
            start = (tag & 0xFFFF) * CHUNK
            request.data = bytes(link.memory.memory[start:start + count])
        self.done(request, status)

    def done(self, request: Request, status: int) -> None:
        """A request has ended."""
        request.status = status
        self.progress, self.wait = time.monotonic(), 0.1

    def fenced(self, link: Link, fenced: b.Fenced) -> None:
        """Finishes what the unit knows the end of, and sends the rest again (IO-37, IO-52)."""
        lost = link.fencing
        if not lost or (fenced.epoch, fenced.number) != (lost.epoch, lost.number) or \
                [outcome[0] for outcome in fenced.outcomes] != list(lost.commands):
            raise Violation("a fence was answered that is not under way")
        for tag, _, status in fenced.outcomes:
            request = lost.commands[tag]
            if status is not None and request.opcode != b.READ:
                self.done(request, status)
            else:
                self.pending.append(request)
        self.lost.remove(lost)
        link.fencing = None


def verify(host: Host) -> int:
    """Writes, flushes, reads and compares; the number of blocks."""
    identify = Request(code=b.IDENTIFY)
    host.calls.append(identify)
    host.perform([Request(b.READ, 0, 1)])
    opening = host.link.opening
    size, total = opening.block_bytes, opening.blocks
    each = max(min(CHUNK, opening.transfer_bytes, host.link.channel.peer.buffer_bytes) // size, 1)
    total = min(total, MOST_BYTES // size)
    seed = secrets.token_bytes(8)

    def pattern(first: int, count: int) -> bytes:
        return b"".join((seed + block.to_bytes(8, "little")) * (size // 16)
                        for block in range(first, first + count))

    ranges = [(first, min(each, total - first)) for first in range(0, total, each)]
    writes = [Request(b.WRITE, *place, pattern(*place)) for place in ranges]
    reads = [Request(b.READ, *place) for place in ranges]
    for requests in (writes, [Request(b.FLUSH)], reads):
        host.perform(requests)
    for read in reads:
        if read.data != pattern(read.first, read.count):
            raise Failed(f"the blocks from {read.first} on are not what was written")
    host.await_ends([identify])
    if identify.status:
        print(f"the unit does not identify its volume: errno {identify.status}", file=sys.stderr)
    return total


def list_volumes(host: str, port: int, key: Key) -> None:
    """Prints the volumes of a unit (IO-11, IO-40, IO-41)."""
    session = (secrets.randbits(64), secrets.randbits(64))
    opening = b.HostOpening(False, "", session, 1, 1, own_name(key), 0)
    link = connect(host, port, opening, key, 0)
    name, deadline = "", time.monotonic() + m.OPENING_SECONDS
    link.channel.send(b.VOLUME_QUERY, 0, b"")
    while time.monotonic() < deadline:
        for event in link.channel.pump(0.1):
            if not isinstance(event, m.Taken) or event.kind != b.VOLUME_ENTRY:
                raise Violation("what came is no volume's entry")
            entry = b.unpack_entry(event.payload)
            if entry is None:
                link.channel.close()
                return
            if entry[0].encode() <= name.encode():
                raise Violation("the volumes do not come in order")
            name, writes, size, count = entry
            access = "read-write" if writes else "read-only"
            print(f"{name}: {count} blocks of {size} bytes, {access}")
            link.channel.send(b.VOLUME_QUERY, 0, name.encode())
    raise Failed("the listing did not end in time")


def main() -> int:
    """Parses the arguments; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="+", metavar="[list] URL")
    parser.add_argument("--seconds", type=float, default=8.0, help="to do without an answer")
    parser.add_argument("--key", metavar="NAME:HEX")
    options = parser.parse_args()
    url = urlsplit(options.words[-1])
    if url.scheme != "fabric+tcp" or not url.port or options.words[:-1] not in ([], ["list"]):
        parser.error("the URL is fabric+tcp://HOST:PORT/VOLUME, behind nothing or `list`")
    key = None
    if options.key:
        name, digits = options.key.rsplit(":", 1)
        key = (name, bytes.fromhex(digits))
    try:
        if options.words[0] == "list":
            list_volumes(url.hostname, url.port, key)
            return 0
        host = Host(url.hostname, url.port, url.path.lstrip("/"), options.seconds, key)
        try:
            print(f"verified {verify(host)} blocks")
        finally:
            host.close()
        return 0
    except (Failed, Refusal, Violation, b.Malformed, iwarp.StreamEnded, mpa.Rejected) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
