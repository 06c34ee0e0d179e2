"""adb's own packets, as they go over USB or TCP: a header of 24 bytes and data.

Protocol: PROTOCOL.TXT of Android's adb.
"""

import struct
from dataclasses import dataclass

from melt.errors import DeviceError

VERSION = 0x01000001  # from here on the data have no checksum
MAX_DATA_BYTES = 2**20
HEADER = struct.Struct("<4sIIIII")
BANNER = b"host::features=shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,sendrecv_v2\0"
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3  # what an AUTH packet carries


@dataclass(frozen=True)
class Packet:
    """One packet; what the arguments mean depends on the command."""

    command: bytes  # CNXN, AUTH, STLS, OPEN, OKAY, WRTE, CLSE
    arg0: int = 0
    arg1: int = 0
    data: bytes = b""

    def encode(self, checksum: bool = True) -> bytes:
        """The bytes; the checksum is a plain sum, which a phone of before version 0x01000001 checks."""
        total = sum(self.data) & 0xFFFFFFFF if checksum else 0
        magic = struct.unpack("<I", self.command)[0] ^ 0xFFFFFFFF
        return HEADER.pack(self.command, self.arg0, self.arg1, len(self.data), total, magic) + self.data


def decode_header(header: bytes) -> tuple[bytes, int, int, int]:
    """Command, both arguments, and the size of the data that follow.

    Raises:
        DeviceError: these are no header.
    """
    command, arg0, arg1, size, _checksum, magic = HEADER.unpack(header)
    if struct.unpack("<I", command)[0] ^ 0xFFFFFFFF != magic or size > MAX_DATA_BYTES:
        raise DeviceError(f"what answers there does not speak adb: {header[:8]!r}", "Is the port the phone's adb port?")
    return command, arg0, arg1, size


def features_of(banner: bytes) -> frozenset[str]:
    """The features in a phone's greeting "device::ro.product.name=...;features=a,b"."""
    text = banner.rstrip(b"\0").decode(errors="replace")
    for part in text.partition("::")[2].split(";"):
        key, _, value = part.partition("=")
        if key == "features":
            return frozenset(value.split(","))
    return frozenset()
