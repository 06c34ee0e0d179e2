"""The model cache: files by their content's hash, and which reference each came from.

Several processes may use it at once: the index changes only under a lock, files appear under their
final name only when whole, and a reference is made by one process while the others wait.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from melt.errors import ModelError
from melt.util.files import cache_folder, write_whole
from melt.util.locks import hold, is_held, one_at_a_time

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_INDEX_VERSION = 1
_HASH_CHUNK_BYTES = 4 * 2**20
_MAX_REMEMBERED_HASHES = 1000
_STRAY_AGE_S = 6 * 3600


@dataclass(frozen=True)
class Made:
    """What a maker left in the file or folder it was given; ``sha256`` empty where it did not compute a file's."""

    sha256: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Entry:
    """One cached model, a file or a folder, and the references it answers to."""

    path: Path
    sha256: str
    file_bytes: int
    mtime_ns: int
    revision: str
    refs: tuple[str, ...]
    used_at: float
    is_folder: bool = False


class ModelCache:
    """Models in ``folder`` (by default under melt's cache folder)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "models"

    def find(self, ref: str) -> Entry | None:
        """The entry of ``ref`` if it is there and sound; a damaged one is removed."""
        if not self.folder.is_dir():  # whoever only looks makes nothing
            return None
        with self._index() as index:
            sha256 = index["refs"].get(ref)
            entry = self._entry(index, sha256) if sha256 else None
            if entry is None:
                return None
            if not self._is_sound(entry):
                self._remove(index, entry)
                return None
            index["files"][entry.sha256] |= {"used_at": time.time(), "mtime_ns": _size_and_time(entry.path)[1]}
            return entry

    def get_or_make(self, ref: str, make: Callable[[Path], Made], *, is_folder: bool = False) -> Entry:
        """The entry of ``ref``, made by calling ``make`` with the path to fill if it is missing."""
        entry = self.find(ref)
        if entry:
            return entry
        with self._lock(f"{hashlib.sha256(ref.encode()).hexdigest()[:32]}.making"):
            return self.find(ref) or self._make(ref, make, "model" if is_folder else "model.gguf")

    def entries(self) -> list[Entry]:
        """All entries whose file is there, the most recently used first."""
        with self._index() as index:
            found = [self._entry(index, sha256) for sha256 in index["files"]]
        there = [entry for entry in found if entry and entry.path.exists()]
        return sorted(there, key=lambda entry: entry.used_at, reverse=True)

    def size_bytes(self) -> int:
        """Bytes of all cached model files."""
        return sum(entry.file_bytes for entry in self.entries())

    def prune(self, max_bytes: int) -> list[Entry]:
        """Remove the least recently used entries until at most ``max_bytes`` are left; what a run uses stays."""
        with self._index():
            self._sweep()
        removed: list[Entry] = []
        total_bytes = self.size_bytes()
        for entry in reversed(self.entries()):
            if total_bytes <= max_bytes:
                break
            if _is_in_use(entry):
                continue
            with self._index() as index:
                self._remove(index, entry)
            total_bytes -= entry.file_bytes
            removed.append(entry)
        return removed

    def sha256_of(self, path: Path, progress: Progress | None = None) -> str:
        """The SHA-256 of a file outside the cache, remembered until its size or time changes."""
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        with self._index() as index:
            known = index["hashes"].get(key)
        if isinstance(known, str):
            return known
        sha256 = hash_file(path, progress)
        with self._index() as index:
            hashes = index["hashes"]
            hashes[key] = sha256
            for old in list(hashes)[:-_MAX_REMEMBERED_HASHES]:
                del hashes[old]
        return sha256

    def _make(self, ref: str, make: Callable[[Path], Made], name: str) -> Entry:
        with self._writing(), self._index():  # held before anybody can take it for one that was left behind
            self._sweep()
            work = Path(tempfile.mkdtemp(prefix=".making-", dir=self.folder))
            held = hold(work)
        try:
            draft = work / name
            made = make(draft)
            sha256 = made.sha256 or hash_file(draft)
            with self._writing(), self._index() as index:
                return self._keep(index, ref, draft, replace(made, sha256=sha256))
        finally:
            shutil.rmtree(work, ignore_errors=True)
            os.close(held)

    def _keep(self, index: dict[str, Any], ref: str, draft: Path, made: Made) -> Entry:
        path = self._path(made.sha256, draft.is_dir())
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        draft.replace(path)
        size_bytes, mtime_ns = _size_and_time(path)
        refs = {*index["files"].get(made.sha256, {}).get("refs", []), ref}
        record = {
            "file_bytes": size_bytes,
            "mtime_ns": mtime_ns,
            "revision": made.revision,
            "refs": sorted(refs),
            "used_at": time.time(),
            **({"is_folder": True} if path.is_dir() else {}),
        }
        index["refs"][ref] = made.sha256
        index["files"][made.sha256] = record
        return _entry_of(path, made.sha256, record)

    def _path(self, sha256: str, is_folder: bool) -> Path:
        return self.folder / "files" / (sha256 if is_folder else f"{sha256}.gguf")

    def _entry(self, index: dict[str, Any], sha256: str) -> Entry | None:
        record = index["files"].get(sha256)
        try:
            return _entry_of(self._path(sha256, record.get("is_folder", False)), sha256, record) if record else None
        except (TypeError, KeyError):
            return None

    def _sweep(self) -> None:
        """Remove what a killed process left half made, and in time files that no index knows; the index is locked."""
        for half_made in self.folder.glob(".making-*"):
            if not is_held(half_made):
                _clear(half_made)
        known = _read_index(self.folder / "index.json")["files"]
        for stray in self.folder.glob("files/*"):
            with contextlib.suppress(FileNotFoundError):  # who made it has just cleared it
                old = time.time() - stray.stat().st_mtime >= _STRAY_AGE_S
                if old and stray.name.removesuffix(".gguf") not in known:
                    _clear(stray)

    def _is_sound(self, entry: Entry) -> bool:
        """Whole as recorded; content is hashed again only when the file's time has changed.

        A folder whose time has changed is made again.
        """
        try:
            size_bytes, mtime_ns = _size_and_time(entry.path)
        except OSError:
            return False
        if size_bytes != entry.file_bytes:
            return False
        return mtime_ns == entry.mtime_ns or (not entry.is_folder and hash_file(entry.path) == entry.sha256)

    def _remove(self, index: dict[str, Any], entry: Entry) -> None:
        _clear(entry.path)
        index["files"].pop(entry.sha256, None)
        index["refs"] = {ref: sha256 for ref, sha256 in index["refs"].items() if sha256 != entry.sha256}

    @contextlib.contextmanager
    def _index(self) -> Iterator[dict[str, Any]]:
        """The index, locked; written back if it was changed. A damaged index starts anew."""
        with self._lock("index"):
            path = self.folder / "index.json"
            index = _read_index(path)
            before = json.dumps(index)
            yield index
            after = json.dumps(index)
            if after != before:
                with self._writing():
                    write_whole(path, after.encode())

    def _lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        with self._writing():
            folder = self.folder / "locks"
            folder.mkdir(parents=True, exist_ok=True)
        return one_at_a_time(folder / f"{name}.lock")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelError(
                f"the model cache {self.folder} cannot be written ({error.strerror or error})",
                "Free some space, or point MELT_CACHE to another folder.",
            ) from error


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes, and when last changed; of a folder, those of its files together and of the latest."""
    stats = [f.stat() for f in (path.rglob("*") if path.is_dir() else [path]) if not f.is_dir()]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _is_in_use(entry: Entry) -> bool:
    """Of a folder a run may hold a file only: the one that the model begins with."""
    files = entry.path.glob("*") if entry.is_folder else ()
    return any(is_held(path, without_locks=False) for path in (entry.path, *files))


def _clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def hash_file(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    total_bytes = path.stat().st_size
    done_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
            done_bytes += len(chunk)
            if progress:
                progress(done_bytes, total_bytes)
    return digest.hexdigest()


def place(source: Path, target: Path) -> None:
    """Put ``source``'s content at ``target`` without a second copy where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _entry_of(path: Path, sha256: str, record: dict[str, Any]) -> Entry:
    return Entry(path=path, sha256=sha256, **{**record, "refs": tuple(record["refs"])})


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text())
        good = index["version"] == _INDEX_VERSION
        parts_good = all(isinstance(index[part], dict) for part in ("refs", "files", "hashes"))
    except (OSError, ValueError, KeyError, TypeError):
        good = parts_good = False
    return index if good and parts_good else {"version": _INDEX_VERSION, "refs": {}, "files": {}, "hashes": {}}
