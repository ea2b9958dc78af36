"""The records of the block I/O protocol (IOProtocol.md): packing, unpacking, checks."""
from __future__ import annotations

import struct
from dataclasses import dataclass, field

MARK, VERSION = b"CFIO", 1  # IO-2, IO-3
(COMMAND, RESPONSE, READY, VOLUME_QUERY, VOLUME_ENTRY, FENCE, FENCED, PATH_STATE, ADDRESS_QUERY,
 ADDRESS_ENTRY, CONTROL_CALL, CONTROL_ANSWER) = range(1, 13)  # IO-20
FLUSH, WRITE, READ, UNCORRECTABLE, COMPARE, ZEROES, DEALLOCATE = 0, 1, 2, 4, 5, 8, 9  # IO-30
OPCODES = (FLUSH, WRITE, READ, UNCORRECTABLE, COMPARE, ZEROES, DEALLOCATE)
SUCCESS, UNSUPPORTED, INVALID_FIELD, INTERNAL_ERROR = 0, 1, 2, 6  # IO-34
OUT_OF_RANGE, READ_ONLY, MEDIA_READ_ERROR, COMPARE_FAILURE = 0x80, 0x182, 0x281, 0x285
STATUSES = {SUCCESS: "success", UNSUPPORTED: "unsupported", INVALID_FIELD: "invalidField",
            INTERNAL_ERROR: "internalError", 7: "aborted", OUT_OF_RANGE: "lbaOutOfRange",
            0x81: "capacityExceeded", READ_ONLY: "readOnly", 0x280: "mediaWriteError",
            MEDIA_READ_ERROR: "mediaReadError", COMPARE_FAILURE: "compareFailure",
            0x7C0: "flushFailed"}
IDENTIFY, BLOCK_SIZE, SET_BLOCK_SIZE, RESCAN, GET_PATH_STATE, HEALTH, SANITISE = range(1, 8)
ENOTTY, EINVAL, EROFS, EOPNOTSUPP = 25, 22, 30, 95  # IO-74
INACCESSIBLE, PATH_STATES = 2, (0, 1, 2)  # IO-60
TAG_BIT = 0x80000000  # IO-22


class Malformed(Exception):
    """A record breaks the rules (IO-4); the words say which."""


def _text(data: bytes, what: str, least: int = 1) -> str:
    """A name of at most 64 bytes of UTF-8 (IO-1, IO-12)."""
    if not least <= len(data) <= 64:
        raise Malformed(f"the {what} has {len(data)} bytes: {least} to 64")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the {what} is not UTF-8") from error


def _check(condition: bool, words: str) -> None:
    if not condition:
        raise Malformed(words)


def _mark(data: bytes) -> None:
    """IO-2 and IO-3, before anything else of an opening is looked at."""
    _check(len(data) >= 6, "a greeting is shorter than its fields")
    _check(data[:4] == MARK, f"a greeting begins with {data[:4].hex()}, not with CFIO")
    version = int.from_bytes(data[4:6], "little")
    _check(version == VERSION, f"the peer speaks version {version}, this side version {VERSION}")


@dataclass
class HostOpening:
    """IO-10."""
    FORM = struct.Struct("<4sHBBQQIHBB")
    writes: bool
    volume: str
    session: tuple[int, int]
    epoch: int
    depth: int
    host: str
    number: int

    def pack(self) -> bytes:
        """The channel's greeting."""
        volume, host = self.volume.encode(), self.host.encode()
        return self.FORM.pack(MARK, VERSION, self.writes, len(volume), *self.session, self.epoch,
                              self.depth, len(host), self.number) + volume + host

    @classmethod
    def unpack(cls, data: bytes) -> HostOpening:
        """Checks all of it."""
        _mark(data)
        _check(cls.FORM.size <= len(data) <= 128, "a greeting has not the length of its fields")
        (_, _, access, volume_bytes, high, low, epoch, depth, host_bytes,
         number) = cls.FORM.unpack_from(data)
        _check(access in (0, 1), f"access {access} is neither 0 nor 1")
        _check(depth > 0, "no commands in flight are asked for")
        names = data[cls.FORM.size:]
        _check(len(names) == volume_bytes + host_bytes, "the names of a greeting end elsewhere")
        _check(len(names) <= 96, "the two names have more than 96 bytes together")
        volume = _text(names[:volume_bytes], "volume's name", 0)
        host = _text(names[volume_bytes:], "host's name")
        return cls(bool(access), volume, (high, low), epoch, depth, host, number)


@dataclass
class UnitOpening:
    """IO-15."""
    FORM = struct.Struct("<4sHBBQQQIIHBB")
    writes: bool
    identity: tuple[int, int]
    blocks: int
    block_bytes: int
    transfer_bytes: int
    depth: int
    path: int
    unit: str

    def pack(self) -> bytes:
        """The channel's greeting."""
        name = self.unit.encode()
        return self.FORM.pack(MARK, VERSION, self.writes, len(name), *self.identity, self.blocks,
                              self.block_bytes, self.transfer_bytes, self.depth, self.path,
                              0) + name

    @classmethod
    def unpack(cls, data: bytes, discovery: bool) -> UnitOpening:
        """Checks all of it."""
        _mark(data)
        _check(len(data) >= cls.FORM.size, "a greeting is shorter than its fields")
        (_, _, access, name_bytes, high, low, blocks, block_bytes, transfer_bytes, depth, path,
         reserved) = cls.FORM.unpack_from(data)
        name = data[cls.FORM.size:]
        _check(access in (0, 1), f"access {access} is neither 0 nor 1")
        _check(reserved == 0, "a reserved byte of the greeting is not 0")
        _check(path in PATH_STATES, f"there is no path state {path}")
        _check(len(name) == name_bytes, "the name of a greeting ends elsewhere")
        if discovery:
            _check(not any((access, high, low, blocks, block_bytes)), "a discovery has a volume")
        else:
            _check(depth > 0, "the unit allows no commands in flight")
            sound = block_bytes >= 512 and block_bytes & (block_bytes - 1) == 0
            _check(sound, f"blocks of {block_bytes} bytes")
            _check(blocks * block_bytes < 1 << 64, "the volume has more than 2^64 bytes")
            _check(transfer_bytes >= block_bytes, "a command does not transfer one block")
        return cls(bool(access), (high, low), blocks, block_bytes, transfer_bytes, depth, path,
                   _text(name, "unit's name"))


@dataclass
class Command:
    """IO-30."""
    FORM = struct.Struct("<BBHIQIIQI28s")
    opcode: int
    tag: int
    first: int
    count: int
    byte_count: int
    address: int = 0
    key: int = 0
    forced: bool = False

    def pack(self) -> bytes:
        """64 bytes."""
        return self.FORM.pack(self.opcode, self.forced, 0, self.tag, self.first, self.count,
                              self.byte_count, self.address, self.key, b"")

    @classmethod
    def unpack(cls, data: bytes) -> Command:
        """Raises `Malformed` for what is answered with `invalidField` (IO-33)."""
        _check(len(data) == 64, "a command is not 64 bytes")
        (opcode, flags, reserved, tag, first, count, byte_count, address, key,
         rest) = cls.FORM.unpack(data)
        _check(flags <= 1 and not reserved and not any(rest), "a reserved bit is not 0")
        return cls(opcode, tag, first, count, byte_count, address, key, bool(flags))


@dataclass
class Response:
    """IO-34."""
    FORM = struct.Struct("<IHHII")
    tag: int
    status: int
    byte_count: int

    def pack(self) -> bytes:
        """16 bytes."""
        return self.FORM.pack(self.tag, self.status, 0, self.byte_count, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Response:
        """A status that is not in the table reads as internalError."""
        _check(len(data) == 16, "a response is not 16 bytes")
        tag, status, reserved, byte_count, zero = cls.FORM.unpack(data)
        _check(not reserved and not zero, "a reserved byte of a response is not 0")
        return cls(tag, status if status in STATUSES else INTERNAL_ERROR, byte_count)


@dataclass
class Fence:
    """IO-50."""
    epoch: int
    number: int
    tags: list[int]

    def pack(self) -> bytes:
        """The payload."""
        count = len(self.tags)
        return struct.pack(f"<IBBH{count}I", self.epoch, self.number, count, 0, *self.tags)

    @classmethod
    def unpack(cls, data: bytes) -> Fence:
        """Checks all of it."""
        _check(len(data) >= 8, "a fence is cut short")
        epoch, number, count, reserved = struct.unpack_from("<IBBH", data)
        _check(count <= 16 and not reserved, "a fence has more than 16 tags, or a reserved bit")
        _check(len(data) == 8 + 4 * count, "a fence has not the length of its tags")
        return cls(epoch, number, list(struct.unpack_from(f"<{count}I", data, 8)))


@dataclass
class Fenced:
    """IO-52; an outcome is (tag, bytes, status), or (tag, 0, None) where no end is known."""
    epoch: int
    number: int
    remembered: bool
    outcomes: list[tuple[int, int, int | None]] = field(default_factory=list)

    def pack(self) -> bytes:
        """The payload."""
        data = struct.pack("<IBBBB", self.epoch, self.number, len(self.outcomes),
                           self.remembered, 0)
        for tag, count, status in self.outcomes:
            data += struct.pack("<IIHBB", tag, count, status or 0, status is not None, 0)
        return data

    @classmethod
    def unpack(cls, data: bytes) -> Fenced:
        """Checks all of it."""
        _check(len(data) >= 8, "a fence's answer is cut short")
        epoch, number, count, remembered, reserved = struct.unpack_from("<IBBBB", data)
        _check(remembered <= 1 and not reserved, "a fence's answer has a reserved bit")
        _check(len(data) == 8 + 12 * count, "a fence's answer has not the length of its outcomes")
        outcomes: list[tuple[int, int, int | None]] = []
        for tag, done, status, ended, zero in struct.iter_unpack("<IIHBB", data[8:]):
            _check(ended <= 1 and not zero, "an outcome has a reserved bit")
            known = status if status in STATUSES else INTERNAL_ERROR
            outcomes.append((tag, done, known if ended else None))
        return cls(epoch, number, bool(remembered), outcomes)


def unpack_path_state(data: bytes) -> int:
    """IO-61."""
    sound = len(data) == 4 and not any(data[1:])
    _check(sound, "a path state is not 4 bytes, or a reserved byte is not 0")
    _check(data[0] in PATH_STATES, f"there is no path state {data[0]}")
    return data[0]


def pack_control_call(code: int, payload: bytes = b"") -> bytes:
    """IO-70."""
    return struct.pack("<IHH", code, len(payload), 0) + payload


def unpack_control_call(data: bytes) -> tuple[int, bytes]:
    """Code and payload."""
    _check(len(data) >= 8, "a control call is cut short")
    code, count, reserved = struct.unpack_from("<IHH", data)
    _check(count <= 200, "a control call has more than 200 bytes")
    _check(not reserved, "a reserved byte of a control call is not 0")
    _check(len(data) == 8 + count, "a control call has not the length that it says")
    return code, data[8:]


def pack_control_answer(errno: int, result: int = 0, payload: bytes = b"") -> bytes:
    """IO-71."""
    return struct.pack("<iiHH", errno, result, len(payload), 0) + payload


def unpack_control_answer(data: bytes) -> tuple[int, int, bytes]:
    """Errno, result and payload."""
    _check(len(data) >= 12, "a control answer is cut short")
    errno, result, count, reserved = struct.unpack_from("<IiHH", data)
    _check(errno < 4096 and count <= 200 and not reserved, "a control answer is out of range")
    _check(len(data) == 12 + count, "a control answer has not the length that it says")
    return errno, result, data[12:]


def pack_identity(identity: tuple[int, int], blocks: int, block_bytes: int, writes: bool,
                  volume: str, unit: str) -> bytes:
    """The payload of identify's answer (IO-72)."""
    names = volume.encode(), unit.encode()
    return struct.pack("<QQQIBBBB", *identity, blocks, block_bytes, writes, len(names[0]),
                       len(names[1]), 0) + names[0] + names[1]


def unpack_volume_query(data: bytes) -> str:
    """The name to list after, or nothing (IO-40)."""
    return _text(data, "name of a query", 0)


ENTRY = struct.Struct("<BBBBIQQQ")  # IO-41


def pack_entry(name: str, writes: bool, block_bytes: int, identity: tuple[int, int],
               blocks: int) -> bytes:
    """A volume's entry."""
    data = name.encode()
    return ENTRY.pack(1, writes, len(data), 0, block_bytes, *identity, blocks) + data


def unpack_entry(data: bytes) -> tuple[str, bool, int, int] | None:
    """Name, access, bytes of a block and block count; nothing at the end of the listing."""
    _check(len(data) >= ENTRY.size, "a volume's entry is cut short")
    present, access, length, reserved, block_bytes, _, _, blocks = ENTRY.unpack_from(data)
    if present == 0:
        _check(not any(data) and len(data) == ENTRY.size, "the end of a listing is not empty")
        return None
    _check(present == 1 and access <= 1 and not reserved, "a volume's entry is out of range")
    _check(len(data) == ENTRY.size + length, "the name of a volume's entry ends elsewhere")
    return _text(data[ENTRY.size:], "volume's name"), bool(access), block_bytes, blocks


def pack_address(fabric: str, place: str, path: int) -> bytes:
    """An address entry (IO-43)."""
    names = fabric.encode(), place.encode()
    return struct.pack("<BBBB", 1, path, len(names[0]), len(names[1])) + names[0] + names[1]
