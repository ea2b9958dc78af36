"""Volumes in memory: what their commands do (IOProtocol.md)."""
from __future__ import annotations

import secrets
import time

import blocks as b

WRITING = (b.WRITE, b.UNCORRECTABLE, b.ZEROES, b.DEALLOCATE)
FORCED = (b.READ, b.WRITE, b.ZEROES)  # IO-33: these may force unit access


class Volume:
    """Blocks in memory."""

    def __init__(self, name: str, blocks: int, block_bytes: int, transfer_bytes: int,
                 writable: bool):
        self.name, self.blocks, self.block_bytes = name, blocks, block_bytes
        self.transfer_bytes, self.writable = transfer_bytes, writable
        self.identity = (secrets.randbits(64), secrets.randbits(64))
        self.memory = bytearray(blocks * block_bytes)
        self.bad: set[int] = set()
        self.began = time.monotonic()
        # IO-73: reads, bytes, writes, bytes, failures, failed flushes; by access
        self.health = {True: [0] * 6, False: [0] * 6}

    def judge(self, command: b.Command, writes: bool, data: memoryview | None) -> int:
        """The status of a command that cannot be carried out, or success (IO-31, IO-33)."""
        transfer = command.opcode in (b.WRITE, b.COMPARE)
        if (data is not None) != transfer:
            return b.INVALID_FIELD
        if command.byte_count > self.transfer_bytes or command.forced and \
                command.opcode not in FORCED:
            return b.INVALID_FIELD
        if not writes and command.opcode in WRITING:
            return b.READ_ONLY
        whole = command.count * self.block_bytes
        if command.opcode == b.FLUSH:
            return b.INVALID_FIELD if command.count or command.byte_count else b.SUCCESS
        if command.count == 0:
            return b.INVALID_FIELD
        if transfer or command.opcode == b.READ:
            if command.byte_count != whole:
                return b.INVALID_FIELD
            if transfer and len(data) != whole:
                return b.INVALID_FIELD
        elif command.byte_count:
            return b.INVALID_FIELD
        beyond = command.first + command.count > self.blocks
        return b.OUT_OF_RANGE if beyond else b.SUCCESS

    def perform(self, command: b.Command, writes: bool, data: memoryview | None) -> tuple[int, int]:
        """Status and bytes transferred of what was judged to be sound, reads aside."""
        first, last = command.first, command.first + command.count
        start, end = first * self.block_bytes, last * self.block_bytes
        health = self.health[writes]
        if command.opcode == b.WRITE:
            self.memory[start:end] = data
            self.bad.difference_update(range(first, last))
            health[2] += 1
            health[3] += end - start
            return b.SUCCESS, end - start
        if command.opcode == b.COMPARE:
            if self.first_bad(first, last) < last:
                health[4] += 1
                return b.MEDIA_READ_ERROR, 0
            same = self.memory[start:end] == data
            return (b.SUCCESS, end - start) if same else (b.COMPARE_FAILURE, 0)
        if command.opcode == b.UNCORRECTABLE:
            self.bad.update(range(first, last))
        elif command.opcode in (b.ZEROES, b.DEALLOCATE):
            self.memory[start:end] = bytes(end - start)
            self.bad.difference_update(range(first, last))
        return b.SUCCESS, 0

    def read(self, command: b.Command, writes: bool) -> tuple[int, bytes]:
        """Status, and the bytes ahead of the first bad block (IO-35)."""
        last = command.first + command.count
        good = self.first_bad(command.first, last)
        data = bytes(self.memory[command.first * self.block_bytes:good * self.block_bytes])
        health = self.health[writes]
        health[0] += 1
        health[1] += len(data)
        health[4] += good < last
        return (b.SUCCESS if good == last else b.MEDIA_READ_ERROR), data

    def first_bad(self, first: int, last: int) -> int:
        """The first bad block from `first` on, or `last`."""
        return min((block for block in self.bad if first <= block < last), default=last)
