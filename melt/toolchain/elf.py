"""What a program's ELF header says of the machine and the system it is for."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

_MACHINES = {62: "x86_64", 183: "aarch64"}
_INTERPRETER = 3  # PT_INTERP
_MAX_SEGMENTS = 256
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True)
class Elf:
    """A 64-bit program: its machine as uname names it, and the system by its interpreter."""

    machine: str
    system: str  # android, glibc, musl; static where it needs no interpreter


def read_elf(file: BinaryIO) -> Elf | None:
    """The header of an executable; None where the file is no 64-bit little-endian ELF of a machine known here."""
    head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return None
    (machine,) = struct.unpack_from("<H", head, 18)
    (table,) = struct.unpack_from("<Q", head, 32)
    entry_bytes, n_entries = struct.unpack_from("<HH", head, 54)
    if machine not in _MACHINES or entry_bytes < 56 or n_entries > _MAX_SEGMENTS or table > 2**40:
        return None
    for i in range(n_entries):
        file.seek(table + i * entry_bytes)
        entry = file.read(56)
        if len(entry) < 56:
            return None
        kind, _flags, offset, _vaddr, _paddr, size = struct.unpack_from("<IIQQQQ", entry)
        if kind == _INTERPRETER and offset < 2**40:
            file.seek(offset)
            return Elf(_MACHINES[machine], _system(file.read(min(size, _MAX_PATH_BYTES)).rstrip(b"\0")))
    return Elf(_MACHINES[machine], "static")


def _system(interpreter: bytes) -> str:
    if interpreter.startswith(b"/system/bin/linker"):
        return "android"
    return "musl" if b"ld-musl" in interpreter else "glibc"
