#!/usr/bin/env python3
"""An I/O unit that serves volumes from memory (IOProtocol.md).

A thread for each connection carries commands out as they come, one at a time under one lock: so a
connection that was fenced under the lock has nothing under way (IO-14, IO-51).
"""
from __future__ import annotations

import argparse
import resource
import socket
import struct
import sys
import threading
import time
from collections import OrderedDict, deque

import blocks as b
import iwarp
import messaging as m
import mpa
from openings import Options, Refusal, Violation
from volumes import Volume

DEPTH, BUFFERS, BUFFER_BYTES = 64, 16, 128 << 10
UNOPENED, CHANNELS, SESSIONS, REMEMBERED = 256, 1000, 1024, 8  # MS-4, MS-18; IO-52
NO_ROOM = bytes([2])  # MS-18


class Session:
    """What the unit knows of one session on one volume (IO-14, IO-52)."""

    def __init__(self):
        self.newest = 0
        self.connections: dict[tuple[int, int], Connection] = {}
        self.ends: OrderedDict[tuple[int, int], deque[tuple[int, int, int]]] = OrderedDict()

    def join(self, connection: Connection, name: tuple[int, int]) -> None:
        """Takes a connection in, which fences those of earlier epochs."""
        if name[0] < self.newest:
            raise Refusal(f"epoch {name[0]} is less than the newest, {self.newest}")
        if name in self.connections:
            raise Refusal(f"connection {name[1]} of epoch {name[0]} is not over")
        self.newest = name[0]
        for other in [key for key in self.connections if key[0] < name[0]]:
            self.fence(other)
        self.connections[name] = connection
        self.ends.pop(name, None)
        self.ends[name] = deque(maxlen=DEPTH)
        while len(self.ends) > REMEMBERED:
            self.ends.popitem(last=False)

    def fence(self, name: tuple[int, int]) -> None:
        """Ends a connection: nothing more is accepted from it."""
        if connection := self.connections.pop(name, None):
            connection.end("it was fenced")


class Unit:
    """Volumes, sessions and connections."""

    def __init__(self, name: str, place: str, volumes: list[Volume], path: int,
                 keys: dict[str, bytes] | None):
        self.name, self.place, self.path, self.keys = name, place, path, keys
        self.volumes = {volume.name: volume for volume in volumes}
        self.lock = threading.RLock()
        self.sessions: OrderedDict[tuple, Session] = OrderedDict()
        self.unopened: OrderedDict[Connection, None] = OrderedDict()
        self.open = 0

    def session(self, opening: b.HostOpening) -> Session:
        """The session of a host's name on a volume; old ones without connections are forgotten."""
        key = (opening.host, opening.session, opening.volume)
        session = self.sessions.setdefault(key, Session())
        self.sessions.move_to_end(key)
        for old in list(self.sessions)[:max(len(self.sessions) - SESSIONS, 0)]:
            if not self.sessions[old].connections:
                del self.sessions[old]
        return session

    def serve(self, listener: socket.socket) -> None:
        """Takes connections until the process ends."""
        while True:
            connection = Connection(self, listener.accept()[0])
            with self.lock:
                self.unopened[connection] = None
                if len(self.unopened) > UNOPENED:  # MS-4: who came first makes room
                    self.unopened.popitem(last=False)[0].end("too many do not open")
            threading.Thread(target=connection.run, daemon=True).start()


class Connection:
    """A host's connection, in a thread of its own."""

    def __init__(self, unit: Unit, sock: socket.socket):
        self.unit, self.sock = unit, sock
        self.ended: str | None = None
        self.opening: b.HostOpening | None = None
        self.volume: Volume | None = None
        self.session: Session | None = None
        self.writes = False
        self.depth = 0
        self.channel: m.Channel | None = None

    def end(self, words: str) -> None:
        """Ends the connection from another thread: its own sees the end of the stream."""
        self.ended = words
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has ended already

    def run(self) -> None:
        """From the start-up to the end."""
        words, stream, wrong = "", None, False
        deadline = time.monotonic() + m.OPENING_SECONDS
        try:
            room = self.unit.open < CHANNELS
            stream = mpa.accept(self.sock, m.OPENING_SECONDS,
                                  None if room else NO_ROOM + b"the unit has no room now")
            self.work(stream, deadline)
        except (Violation, b.Malformed) as error:
            words, wrong = str(error), True
        except (iwarp.StreamEnded, Refusal, m.Closed) as error:
            words, wrong = self.ended or str(error), self.ended is not None
        finally:
            self.leave()
            if wrong and self.channel and self.channel.peer:
                self.channel.hang_up()
            elif stream:
                stream.finish()
            else:
                self.sock.close()
            print(f"a connection ended: {words}", file=sys.stderr, flush=True)

    def leave(self) -> None:
        """The connection is over, and its number free again."""
        with self.unit.lock:
            self.unit.unopened.pop(self, None)
            self.unit.open -= self.channel is not None
            if self.session and self.session.connections.get(self.number()) is self:
                del self.session.connections[self.number()]

    def number(self) -> tuple[int, int]:
        """Epoch and number."""
        return self.opening.epoch, self.opening.number

    def work(self, stream: iwarp.Stream, deadline: float) -> None:
        """Opens the channel and carries out what comes."""
        options = Options(receives=2 * DEPTH + 32, receive_bytes=512, buffers=BUFFERS,
                            buffer_bytes=BUFFER_BYTES)
        with self.unit.lock:
            self.channel = m.Channel(stream, options)
            self.unit.open += 1
        self.channel.accept(deadline, self.decide, self.unit.keys)
        with self.unit.lock:
            self.unit.unopened.pop(self, None)
        if self.volume:
            self.channel.send(b.READY, 0, b"")  # IO-14: the fenced have nothing under way
        while True:
            for event in self.channel.pump(1.0):
                if isinstance(event, m.Pushed):
                    raise Violation("the end of a push came that nobody asked for")
                with self.unit.lock:
                    if self.ended:
                        raise iwarp.StreamEnded(self.ended)
                    self.take(event)

    def decide(self, greeting: bytes, key_name: str | None) -> bytes:
        """Answers the host's opening (IO-10 to IO-17)."""
        try:
            opening = b.HostOpening.unpack(greeting)
        except b.Malformed as error:
            raise Refusal(str(error)) from error
        if key_name is not None and opening.host != key_name:
            raise Refusal("the host's name is not that of its key")
        self.opening = opening
        self.depth = min(opening.depth, DEPTH)
        if not opening.volume:  # IO-11
            return b.UnitOpening(False, (0, 0), 0, 0, 0, self.depth, self.unit.path,
                                 self.unit.name).pack()
        volume = self.unit.volumes.get(opening.volume)
        if volume is None:
            raise Refusal(f"there is no volume {opening.volume}")
        if opening.writes and not volume.writable:
            raise Refusal(f"the volume {volume.name} may only be read")
        with self.unit.lock:
            if self.ended:
                raise iwarp.StreamEnded(self.ended)
            session = self.unit.session(opening)
            session.join(self, self.number())
            self.volume, self.session, self.writes = volume, session, opening.writes
        return b.UnitOpening(opening.writes, volume.identity, volume.blocks, volume.block_bytes,
                             BUFFER_BYTES, self.depth, self.unit.path, self.unit.name).pack()

    def take(self, event: m.Taken) -> None:
        """One message of the host's (IO-20)."""
        if event.buffer is not None:
            self.channel.give_back(event.buffer)
        handlers = {b.VOLUME_QUERY: self.volume_query, b.ADDRESS_QUERY: self.address_query}
        if self.volume:
            handlers = {b.COMMAND: self.command, b.FENCE: self.fence, b.CONTROL_CALL: self.control}
        if event.kind not in handlers:
            raise Violation(f"a message of kind {event.kind} is out of place here")
        if event.buffer is not None and event.kind != b.COMMAND:
            raise Violation(f"a message of kind {event.kind} came as a transfer")
        handlers[event.kind](event)

    def command(self, event: m.Taken) -> None:
        """A command (IO-21, IO-22, IO-30 to IO-36)."""
        under_way = [out.tag for out in self.channel.waiting
                     if out.type == m.PUSHED or out.kind == b.RESPONSE]
        if len(under_way) >= self.depth or event.tag in under_way:
            raise Violation("more commands came at once than were allowed, or a tag twice")
        if event.tag & b.TAG_BIT:
            raise Violation("the tag of a command has its highest bit set")
        data = event.data if event.buffer is not None else None
        opcode = event.payload[0] if event.payload else None
        try:
            if len(event.payload) == 64 and opcode not in b.OPCODES:
                self.done(event.tag, b.UNSUPPORTED, 0)  # whatever its other fields are
                return
            command = b.Command.unpack(event.payload)
        except b.Malformed:
            self.done(event.tag, b.INVALID_FIELD, 0)
            return
        if command.tag != event.tag:
            raise Violation("the tag of a command is not that of its message")
        status = self.volume.judge(command, self.writes, data)
        if opcode == b.READ:
            self.read(command, status)
        elif status != b.SUCCESS:
            self.done(command.tag, status, 0)
        else:
            self.done(command.tag, *self.volume.perform(command, self.writes, data))

    def done(self, tag: int, status: int, count: int) -> None:
        """A command that is no read has ended; the end is remembered (IO-52)."""
        if (ends := self.session.ends.get(self.number())) is not None:
            ends.append((tag, count, status))
        self.respond(tag, status, count)

    def read(self, command: b.Command, status: int) -> None:
        """IO-32, IO-35; a read that was judged wrong moves nothing."""
        data = b""
        if status == b.SUCCESS:
            status, data = self.volume.read(command, self.writes)
        if status == b.SUCCESS:
            self.channel.push(command.key, command.address, data, command.tag)
            return
        if data:
            self.channel.write_only(command.key, command.address, data)
        self.respond(command.tag, status, len(data))

    def respond(self, tag: int, status: int, count: int) -> None:
        """IO-34."""
        self.channel.send(b.RESPONSE, tag, b.Response(tag, status, count).pack())

    def fence(self, event: m.Taken) -> None:
        """IO-50 to IO-52; under the unit's lock nothing of another connection is under way."""
        fence = b.Fence.unpack(event.payload)
        name = (fence.epoch, fence.number)
        if name == self.number():
            raise Violation("a fence names the connection itself")
        self.session.fence(name)
        ends = self.session.ends.get(name)
        known = {tag: (count, status) for tag, count, status in ends or ()}
        outcomes = [(tag, *known.get(tag, (0, None))) for tag in fence.tags]
        answer = b.Fenced(*name, ends is not None, outcomes)
        self.channel.send(b.FENCED, event.tag, answer.pack())

    def control(self, event: m.Taken) -> None:
        """IO-70 to IO-74."""
        code, payload = b.unpack_control_call(event.payload)
        errno, result, answer = self.carry_out(code, payload)
        self.channel.send(b.CONTROL_ANSWER, event.tag, b.pack_control_answer(errno, result, answer))

    def carry_out(self, code: int, payload: bytes) -> tuple[int, int, bytes]:
        """Errno, result and payload of a control call's answer."""
        volume = self.volume
        if not b.IDENTIFY <= code <= b.SANITISE:
            return b.ENOTTY, 0, b""
        if len(payload) != (4 if code == b.SET_BLOCK_SIZE else 0):
            return b.EINVAL, 0, b""
        if code == b.IDENTIFY:
            return 0, 0, b.pack_identity(volume.identity, volume.blocks, volume.block_bytes,
                                         self.writes, volume.name, self.unit.name)
        if code == b.BLOCK_SIZE:
            return 0, volume.block_bytes, b""
        if code == b.SET_BLOCK_SIZE:
            if not self.writes:
                return b.EROFS, 0, b""
            same = int.from_bytes(payload, "little") == volume.block_bytes
            return (0, 0, b"") if same else (b.EINVAL, 0, b"")
        if code == b.RESCAN:  # memory does not grow
            return 0, 0, struct.pack("<Q", volume.blocks)
        if code == b.GET_PATH_STATE:
            return 0, self.unit.path, b""
        if code == b.HEALTH:
            seconds = int(time.monotonic() - volume.began)
            return 0, 0, struct.pack("<7Q", *volume.health[self.writes], seconds)
        return b.EOPNOTSUPP, 0, b""

    def volume_query(self, event: m.Taken) -> None:
        """The first volume, in bytewise order, after a name (IO-40)."""
        after = b.unpack_volume_query(event.payload).encode()
        later = sorted(name for name in self.unit.volumes if name.encode() > after)
        entry = bytes(b.ENTRY.size)
        if later:
            volume = self.unit.volumes[later[0]]
            entry = b.pack_entry(volume.name, volume.writable, volume.block_bytes, volume.identity,
                                 volume.blocks)
        self.channel.send(b.VOLUME_ENTRY, event.tag, entry)

    def address_query(self, event: m.Taken) -> None:
        """IO-42, IO-43: this unit has one address."""
        if len(event.payload) != 2:
            raise Violation("an address query is not 2 bytes")
        first = event.payload == bytes(2)
        entry = b.pack_address("tcp", self.unit.place, self.unit.path) if first else bytes(4)
        self.channel.send(b.ADDRESS_ENTRY, event.tag, entry)


def main() -> None:
    """Parses the arguments, listens, serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="tcp:HOST:PORT; port 0 lets the system choose")
    parser.add_argument("--volume", action="append", required=True)
    parser.add_argument("--blocks", type=int, default=2048)
    parser.add_argument("--block-size", type=int, choices=(512, 4096), default=512)
    parser.add_argument("--read-only", action="append", default=[], metavar="VOLUME")
    parser.add_argument("--path-state", type=int, choices=b.PATH_STATES, default=0)
    parser.add_argument("--name", default="nqn.python:unit")
    parser.add_argument("--key", action="append", metavar="NAME:HEX", help="takes only such hosts")
    options = parser.parse_args()
    host, port = options.address.removeprefix("tcp:").rsplit(":", 1)
    keys = {name: bytes.fromhex(key) for name, key in
            (pair.rsplit(":", 1) for pair in options.key)} if options.key else None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    listener = socket.create_server((host, int(port)), backlog=512)
    place = f"{host}:{listener.getsockname()[1]}"
    volumes = [Volume(name, options.blocks, options.block_size, BUFFER_BYTES,
                      name not in options.read_only) for name in options.volume]
    print(f"listening tcp:{place}", flush=True)
    try:
        Unit(options.name, place, volumes, options.path_state, keys).serve(listener)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
