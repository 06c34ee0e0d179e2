"""Files of an app's container, by house_arrest."""

import contextlib
from collections.abc import Callable
from io import BufferedReader
from typing import TYPE_CHECKING

from pymobiledevice3.exceptions import AfcFileNotFoundError
from pymobiledevice3.services.house_arrest import HouseArrestService

from melt.drivers.ios.pymd3.upload import OtherAnswerError, Upload
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError

if TYPE_CHECKING:
    from melt.drivers.ios.pymd3.phone import Phone

_PART_BYTES = 2**19
_SLOWEST_BYTES_PER_S = 500e3
_CALL_S = 30.0


class Container:
    """One connection to one app's files; paths count from the container.

    Every method raises ConnectionLostError where the phone goes away, and DeviceError where it refuses.
    """

    def __init__(self, phone: "Phone", bundle_id: str) -> None:
        self._phone, self._bundle_id = phone, bundle_id
        self._upload: Upload | None = None
        self._uploads = True  # until it is seen not to do
        self._afc = phone.call(HouseArrestService.create(phone.lockdown, bundle_id), "opening the app's files", _CALL_S)

    def size_bytes(self, path: str) -> int | None:
        """A file's size; None where there is none."""
        return self._phone.call(self._size(path), path, _CALL_S)

    async def _size(self, path: str) -> int | None:
        try:
            size = int((await self._afc.stat(path))["st_size"])
            if size < 0:
                raise DeviceError(f"{self._phone.name}: {path} is said to have {size} bytes")
            return size
        except AfcFileNotFoundError:
            return None

    def modified_s(self, path: str) -> float:
        """When a file was last written, in the phone's seconds since 1970; 0 where there is none."""
        return self._phone.call(self._modified(path), path, _CALL_S)

    async def _modified(self, path: str) -> float:
        try:
            return float((await self._afc.stat(path))["st_mtime"].timestamp())
        except AfcFileNotFoundError:
            return 0.0

    def names(self, path: str) -> list[str]:
        """What is in a folder; nothing where there is none."""
        return self._phone.call(self._names(path), path, _CALL_S)

    async def _names(self, path: str) -> list[str]:
        try:
            return [str(n) for n in await self._afc.listdir(path)]
        except AfcFileNotFoundError:
            return []

    def free_bytes(self) -> int:
        """Room on the phone's disk."""
        return self._phone.call(self._free(), "asking for free space", _CALL_S)

    async def _free(self) -> int:
        free_bytes = (await self._afc.get_device_info()).get("FSFreeBytes", "")
        if not str(free_bytes).isdecimal():
            raise DeviceError(f"{self._phone.name}: its free space is said to be {free_bytes!r:.100}")
        return int(free_bytes)

    def make_folder(self, path: str) -> None:
        """With those above it."""
        self._phone.call(self._afc.makedirs(path), path, _CALL_S)

    def write(self, path: str, content: bytes) -> None:
        """A small file, whole."""
        self._phone.call(self._afc.set_file_contents(path, content), path, _CALL_S)

    def rename(self, source: str, target: str) -> None:
        """Over what may be there."""
        self._phone.call(self._afc.rename(source, target), source, _CALL_S)

    def remove(self, path: str, timeout_s: float | None = None) -> None:
        """A file or a folder with all in it; nothing happens where there is none."""
        self._phone.call(self._afc.rm(path, force=True), path, timeout_s or _CALL_S)

    def read(self, path: str, offset: int, size: int, timeout_s: float | None = None) -> bytes:
        """So many bytes from there on, or fewer at the file's end; none where there is no file."""
        return self._phone.call(self._read(path, offset, size), path, timeout_s or _CALL_S)

    async def _read(self, path: str, offset: int, size: int) -> bytes:
        try:
            handle = await self._afc.fopen(path, "r")
        except AfcFileNotFoundError:
            return b""
        try:
            if offset:
                await self._afc.fseek(handle, offset)
            return bytes(await self._afc.fread(handle, size))
        finally:
            await self._afc.fclose(handle)

    def send(
        self, content: BufferedReader, path: str, offset: int, size_bytes: int, sent: Callable[[int], None]
    ) -> None:
        """Writes a file from the content's place on; what is below the offset is there already.

        By a connection of its own; by the library where the phone answers that one otherwise than expected, or broke
        it off.
        """
        start = content.tell()
        if self._uploads:
            try:
                self._upload = self._upload or Upload(self._phone, self._bundle_id)
                return self._upload.write(content, path, offset, sent)
            except OtherAnswerError:
                self._uploads = False
                self._end_upload()
            except BaseException as e:
                self._uploads = not isinstance(e, ConnectionLostError)
                self._end_upload()  # an interrupt leaves it in the middle of a write
                raise
        content.seek(start)
        limit_s = _CALL_S + (size_bytes - offset) / _SLOWEST_BYTES_PER_S
        return self._phone.call(self._send(content, path, offset, sent), path, limit_s)

    async def _send(self, content: BufferedReader, path: str, offset: int, sent: Callable[[int], None]) -> None:
        handle = await self._afc.fopen(path, "r+" if offset else "w")
        if offset:
            await self._afc.fseek(handle, offset)
        while part := content.read(_PART_BYTES):
            await self._afc.fwrite(handle, part)
            offset += len(part)
            sent(offset)
        await self._afc.fclose(handle)

    def _end_upload(self) -> None:
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def close(self) -> None:
        """Lets it go."""
        self._end_upload()
        with contextlib.suppress(Exception):
            self._phone.call(self._afc.aclose(), "closing", _CALL_S)
