"""melt's files in its app's container, each under its content's hash: there already, or sent and renamed.

Documents/melt/files/<sha256>/<name>   whole: what is on its way has another name. Files of one model lie together,
                                       under its hash
Documents/melt/files/<sha256>/.used    written anew at every use, so that its time tells what was used longest ago
Documents/melt/incoming/<sha256>       what is on its way; a cut leaves it here, and the next push goes on from there

What travels is under TLS, which finds every damaged byte, so a file that arrived under its size is whole.
"""

import re

from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.ios.pymd3.container import Container
from melt.drivers.ios.pymd3.errors import CLEAN_HINT
from melt.drivers.remote.files import safe_name
from melt.errors import DeviceError, TransientDeviceError

FOLDER = "Documents/melt"
_FILES, _INCOMING, _USED = f"{FOLDER}/files", f"{FOLDER}/incoming", ".used"
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_BLOCK_BYTES = 2**20
_SPARE_BYTES = 256 * 2**20  # room that a phone needs to live


class AppFiles:
    """The files of one app's container."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        self._name = name

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file there unless its content is already.

        Raises:
            DeviceError: there is no room, or the phone refuses it.
            ConnectionLostError: the phone went away; the next push goes on from there.
        """
        folder = f"{_FILES}/{file.folder}"
        place = f"{folder}/{safe_name(file.name)}"
        report = progress or (lambda _done, _total: None)
        if self._container.size_bytes(place) == file.size_bytes:
            self._container.write(f"{folder}/{_USED}", b"")
            report(file.size_bytes, file.size_bytes)
            return PlacedFile(place, pushed=False)
        incoming = f"{_INCOMING}/{file.sha256}"
        self._container.make_folder(_INCOMING)
        self._container.make_folder(folder)
        offset = self._there_bytes(file, incoming)
        if not offset:
            self._container.remove(incoming)  # what a cut left takes no room twice
        self._check_room(file, offset)
        try:
            with file.path.open("rb") as content:
                content.seek(offset)
                self._container.send(content, incoming, offset, file.size_bytes, lambda n: report(n, file.size_bytes))
        except TransientDeviceError:
            raise  # what has arrived is the file's beginning
        except DeviceError:
            self._container.remove(incoming)  # a part that was refused may have others behind it
            raise
        arrived = self._container.size_bytes(incoming)
        if arrived != file.size_bytes:
            self._container.remove(incoming)
            raise DeviceError(f"{self._name}: {file.name}: {arrived} of {file.size_bytes} bytes arrived", "Try again.")
        self._container.write(f"{folder}/{_USED}", b"")
        self._container.rename(incoming, place)
        return PlacedFile(place, pushed=True)

    def _there_bytes(self, file: DeviceFile, incoming: str) -> int:
        """How much of what a cut left is the file's beginning, by its last whole block; 0 where it is not."""
        there = min(self._container.size_bytes(incoming) or 0, file.size_bytes)
        there -= there % _BLOCK_BYTES
        if not there:
            return 0
        with file.path.open("rb") as content:
            content.seek(there - _BLOCK_BYTES)
            same = content.read(_BLOCK_BYTES) == self._container.read(incoming, there - _BLOCK_BYTES, _BLOCK_BYTES)
        return there if same else 0

    def _check_room(self, file: DeviceFile, there_bytes: int) -> None:
        free, needed = self._container.free_bytes(), file.size_bytes - there_bytes + min(_SPARE_BYTES, file.size_bytes)
        if free < needed:
            raise DeviceError(
                f"{self._name}: {file.name} needs {needed / 2**20:.0f} MiB of room on the iPhone, "
                f"which has {free / 2**20:.0f} MiB",
                CLEAN_HINT,
            )

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes the files used longest ago until the rest is within the limit, and what never arrived whole.

        Returns:
            The bytes removed.
        """
        self._container.remove(_INCOMING)
        files = []
        for sha256 in filter(_SHA256.match, self._container.names(_FILES)):
            folder = f"{_FILES}/{sha256}"
            names = [n for n in self._container.names(folder) if not n.startswith(".") and "/" not in n]
            sizes = [self._container.size_bytes(f"{folder}/{n}") or 0 for n in names]
            files.append((self._container.modified_s(f"{folder}/{_USED}"), folder, sum(sizes)))
        kept, removed = sum(size for _, _, size in files), 0
        for _used, folder, size in sorted(files):
            if kept - removed <= limit_bytes:
                break
            self._container.remove(folder)
            removed += size
        return removed
