"""melt's files on a device, each under its content's hash: there already, or sent, verified and renamed.

WORK/files/<sha256>/<name>     a file that was verified when it came; touched when it is used. Files of one whole lie
                               together, under its hash
WORK/incoming/                 what is on its way; a cut leaves it here, and the next push goes on or starts again
"""

import contextlib
import hashlib
import re
from pathlib import Path, PurePosixPath

from melt.drivers.base import DeviceFile, PlacedFile, Progress
from melt.drivers.remote.base import SHA256, Remote, last_words, quoted
from melt.drivers.remote.process import run_command
from melt.errors import DeviceError, TransientDeviceError

_HASH_BYTES_PER_S = 20e6  # the slowest device's sha256sum, for the time-out
_BLOCK_BYTES = 2**20
_WORTH_GOING_ON_BYTES = 16 * 2**20  # below, sending anew is quicker than asking
_SPARE_BYTES = 256 * 2**20  # room that a device needs to live
_LEAST_BYTES = 2**20  # below, nothing of melt's fits
_CLEAN_HINT = "Free some there, or remove what melt put there: melt devices clean NAME"


class RemoteFiles:
    """The files below one work folder."""

    def __init__(self, remote: Remote, work_folder: str) -> None:
        self._remote = remote
        self.folder = work_folder

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            DeviceError: this user may not write there, or nothing may be started from there.
        """
        probe = f"{self.folder}/incoming/.probe"
        script = (
            f"mkdir -p {quoted(f'{self.folder}/files', f'{self.folder}/incoming', f'{self.folder}/jobs')} && "
            f"echo '#!/bin/sh' > {quoted(probe)} && chmod 700 {quoted(probe)} && "
            f"{{ [ -x {quoted(probe)} ] || {{ echo 'no program may be started there' >&2; false; }}; }}; r=$?; "
            f"rm -f {quoted(probe)}; "
            # what runs left whose host went away; find may be a small one that cannot
            f"find {quoted(f'{self.folder}/jobs')} -type f -mtime +1 -exec rm -f {{}} \\; 2>/dev/null; exit $r"
        )
        done = run_command(self._remote, script)
        if done.code == 0:
            return
        if self._is_full(last_words(done)):
            raise DeviceError(f"{self._remote.name}: the disk with {self.folder} is full", _CLEAN_HINT)
        raise DeviceError(
            f"{self._remote.name}: {self.folder}: {last_words(done)}",
            "work_folder in the profile must be one to write to and to start programs from.",
        )

    def _is_full(self, words: str) -> bool:
        """By what the shell said: a small one calls it an I/O error, and elsewhere no byte is free by nature."""
        if "no space left" in words.lower():
            return True
        with contextlib.suppress(DeviceError):
            return "i/o error" in words.lower() and self.free_bytes() < _LEAST_BYTES
        return False

    def free_bytes(self) -> int:
        """Room left for files, where the folder is or is to be; nothing is written."""
        script = f'd={quoted(self.folder)}; while [ ! -d "$d" ] && [ -n "$d" ]; do d=${{d%/*}}; done; df -k "${{d:-/}}"'
        return parse_df(run_command(self._remote, script).text)

    def push(self, file: DeviceFile, progress: Progress | None = None) -> PlacedFile:
        """Puts a file there unless its content is already.

        Raises:
            DeviceError: there is no room, or the device refuses it.
            TransientDeviceError: what arrived is not what was sent, or the device went away.
        """
        place = f"{self.folder}/files/{file.folder}/{safe_name(file.name)}"
        report = progress or (lambda _done, _total: None)
        if self._remote.size_bytes(place) == file.size_bytes:
            run_command(self._remote, f"touch {quoted(place)}")
            report(file.size_bytes, file.size_bytes)
            return PlacedFile(place, pushed=False)
        incoming = f"{self.folder}/incoming/{file.sha256}"
        offset = self._verified_bytes(file, incoming) if self._remote.appends else 0
        if not offset:
            run_command(self._remote, f"rm -f {quoted(incoming)}")  # what a cut left takes no room twice
        self._check_room(file, offset)
        # The largest is a model; anybody's program may read it, and only programs of melt's are started.
        with file.path.open("rb") as content:
            self._remote.send(
                content, incoming, 0o755, lambda done: report(min(done, file.size_bytes), file.size_bytes), offset
            )
        self._verify(file, incoming)
        parent = str(PurePosixPath(place).parent)
        # On the disk before it has its name: a warm push believes the name and the size.
        flushed = f"{{ fsync {quoted(incoming)} || sync {quoted(incoming)}; }} 2>/dev/null || sync"
        script = (
            f"mkdir -p {quoted(parent)} && chmod 755 {quoted(incoming)} && touch {quoted(incoming)} && "
            f"{{ {flushed}; }} && mv -f {quoted(incoming, place)}"
        )
        done = run_command(self._remote, script)
        if done.code != 0:
            raise DeviceError(f"{self._remote.name}: {place}: {last_words(done)}", _CLEAN_HINT)
        return PlacedFile(place, pushed=True)

    def _verified_bytes(self, file: DeviceFile, incoming: str) -> int:
        """How much of what a cut left there is the beginning of the file; 0 where it is none."""
        there = self._remote.size_bytes(incoming) or 0
        there = min(there, file.size_bytes) - min(there, file.size_bytes) % _BLOCK_BYTES
        if there < _WORTH_GOING_ON_BYTES:
            return 0
        script = f"truncate -s {there} {quoted(incoming)} && {SHA256} < {quoted(incoming)}"
        done = run_command(self._remote, script, 30.0 + there / _HASH_BYTES_PER_S)
        return there if done.code == 0 and done.text.split()[:1] == [_hash_of_first(file.path, there)] else 0

    def _check_room(self, file: DeviceFile, there_bytes: int) -> None:
        free, needed = self.free_bytes(), file.size_bytes - there_bytes + min(_SPARE_BYTES, file.size_bytes)
        if free < needed:
            raise DeviceError(
                f"{self._remote.name}: {file.name} needs {needed / 2**20:.0f} MiB of room on the {self._remote.what}, "
                f"which has {free / 2**20:.0f} MiB",
                _CLEAN_HINT,
            )

    def _verify(self, file: DeviceFile, incoming: str) -> None:
        limit_s = 30.0 + file.size_bytes / _HASH_BYTES_PER_S
        done = run_command(self._remote, f"{SHA256} < {quoted(incoming)}", limit_s)
        if done.code == 0 and done.text.split()[:1] == [file.sha256]:
            return
        run_command(self._remote, f"rm -f {quoted(incoming)}")
        if done.code != 0:
            raise DeviceError(
                f"{self._remote.name}: cannot check {file.name} on the {self._remote.what}: {last_words(done)}"
            )
        raise TransientDeviceError(
            f"{self._remote.name}: {file.name} arrived damaged", "Try another cable or port; it is sent again."
        )

    def clean(self, limit_bytes: int = 0) -> int:
        """Removes the files used longest ago until the rest is within the limit, and what never arrived whole.

        Returns:
            The bytes removed.
        """
        script = (
            f"cd {quoted(self.folder)} || exit 1; rm -rf incoming/* jobs/*; "
            'for f in files/*/*; do [ -f "$f" ] && stat -c \'%Y %s %n\' "$f"; done; true'
        )
        listed = parse_listing(run_command(self._remote, script).text)
        kept = sum(size for _, size, _ in listed)
        removed, gone = 0, []
        for folder, size in _longest_unused(listed):
            if kept - removed <= limit_bytes:
                break
            gone.append(f"{self.folder}/{folder}")
            removed += size
        for at in range(0, len(gone), 100):
            run_command(self._remote, f"rm -rf {quoted(*gone[at : at + 100])}")
        return removed


def _longest_unused(listed: list[tuple[int, int, str]]) -> list[tuple[str, int]]:
    """Folders and the bytes in each, the one used longest ago first."""
    files: dict[str, list[tuple[int, int]]] = {}
    for used, size, path in sorted(listed):
        files.setdefault(str(PurePosixPath(path).parent), []).append((used, size))
    by_use = sorted(files, key=lambda folder: max(used for used, _ in files[folder]))
    return [(folder, sum(size for _, size in files[folder])) for folder in by_use]


def _hash_of_first(path: Path, size_bytes: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while size_bytes and (part := content.read(min(_BLOCK_BYTES, size_bytes))):
            digest.update(part)
            size_bytes -= len(part)
    return digest.hexdigest()


def safe_name(name: str) -> str:
    """A file name that no shell and no file system takes amiss."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-100:] or "file"


def parse_df(text: str) -> int:
    """Free bytes from ``df -k``; a long device name may have a line of its own.

    Raises:
        DeviceError: this is not what df says.
    """
    columns = " ".join(text.splitlines()[1:]).split()
    numbers = [int(w) for w in columns if re.fullmatch(r"[0-9]{1,18}", w)]
    if len(numbers) < 3:
        raise DeviceError(f"the device's df says {text.strip()[-80:]!r}")
    return numbers[2] * 1024


def parse_listing(text: str) -> list[tuple[int, int, str]]:
    """Rows of time of use, size and path; a path that melt does not make is left alone."""
    rows = re.findall(r"^([0-9]{1,15}) ([0-9]{1,18}) (files/[0-9a-f]{64}/[A-Za-z0-9._-]+)$", text, re.M)
    return [(int(used), int(size), path) for used, size, path in rows]
