"""Results on disk: a folder a run, written under a temporary name and renamed when whole.

A folder holds ``manifest.json`` (``melt.store.manifest.Manifest``), ``events.jsonl`` (the runner's stdout as it
came), ``telemetry.jsonl`` (the sampler's file as it came), ``stderr.txt`` and ``plan.yaml`` (the plan it belongs
to). Whatever kills melt or the machine, a run is either whole or still under a name that starts with a dot, which
loading ignores. Whoever writes it: of a cell's session each attempt is there once.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from melt.errors import StoreError
from melt.spec.events import MAX_LINE_CHARS, Event, UnknownLine, parse_event
from melt.store.manifest import MANIFEST, DamagedRunError, Manifest, read_manifest
from melt.util.files import sync, sync_folder, why_not_writable
from melt.util.locks import alone, hold, is_held

EVENTS = "events.jsonl"
TELEMETRY = "telemetry.jsonl"
STDERR = "stderr.txt"
PLAN = "plan.yaml"
PARTIAL = ".partial-"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_STREAM_BYTES = 2**30  # a night of telemetry at 100 Hz


@dataclass(frozen=True)
class Run:
    """One published run: its manifest, and its raw streams on demand."""

    folder: Path
    manifest: Manifest

    def events(self) -> Iterator[Event | UnknownLine]:
        """The runner's events in order; lines that are none come as UnknownLine."""
        for line in _lines(self.folder / EVENTS):
            yield parse_event(line)

    def telemetry_lines(self) -> Iterator[str]:
        """The sampler's raw lines in order."""
        yield from _lines(self.folder / TELEMETRY)


@dataclass(frozen=True)
class Damaged:
    """A folder that should hold a run and does not, with the reason; it is reported and left alone."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Partial:
    """The folder of a run in the making, and the lock that says so."""

    folder: Path
    lock: int  # a file descriptor

    def let_go(self) -> None:
        """Gives up the lock."""
        os.close(self.lock)


class Store:
    """A results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> tuple[list[Run], list[Damaged]]:
        """Every run in the folder, oldest first, and every folder that is damaged.

        Raises:
            StoreError: there is no such folder, or a run in it was written by a newer melt.
        """
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder}: no such results folder", "Measure something first: `melt run --help`.")
        runs, damaged = [], []
        for folder in sorted(p.parent for p in self.folder.glob(f"*/{MANIFEST}")):
            if folder.name.startswith("."):
                continue
            try:
                _check_files(folder)
                runs.append(Run(folder, read_manifest(folder / MANIFEST)))
            except DamagedRunError as e:
                damaged.append(Damaged(folder, str(e)))
        have = {r.folder for r in runs} | {d.folder for d in damaged}
        for folder in sorted(p.parent for p in self.folder.glob(f"*/{EVENTS}")):
            if folder not in have and not folder.name.startswith("."):
                damaged.append(Damaged(folder, f"no {MANIFEST}"))
        runs.sort(key=lambda r: (r.manifest.started_at, r.manifest.run_id))
        return runs, damaged

    def run(self, run_id: str) -> Run:
        """One published run.

        Raises:
            StoreError: it is not there, or cannot be read.
        """
        folder = self.folder / run_id
        try:
            _check_files(folder)
            return Run(folder, read_manifest(folder / MANIFEST))
        except DamagedRunError as e:
            raise StoreError(f"{folder}: {e}", "The same command makes it again.") from e

    def mentions(self, words: str) -> bool:
        """Whether a manifest has these words, as JSON writes them."""
        sought = words.encode()
        for path in self.folder.glob(f"*/{MANIFEST}"):
            with contextlib.suppress(DamagedRunError, OSError):
                _check_files(path.parent)
                if sought in path.read_bytes():
                    return True
        return False

    def check_writable(self) -> None:
        """Raises StoreError where nothing could be written, without making anything."""
        if reason := why_not_writable(self.folder):
            raise StoreError(f"{self.folder}: {reason}", "Name another --results.")

    def begin(self, run_id: str) -> Partial:
        """A new folder for a run in the making; it becomes a run by ``publish``.

        Raises:
            StoreError: the folder cannot be written.
        """
        folder = self.folder / f"{PARTIAL}{run_id}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with alone(self.folder):  # a new folder is held before anybody can take it for one that was left behind
                self._sweep()
                folder.mkdir()
                return Partial(folder, hold(folder))
        except OSError as e:
            raise cannot_write(self.folder, e) from e

    def publish(self, partial: Partial, manifest: Manifest) -> Run:
        """Makes a run of a folder from ``begin``: every file synced, the folder renamed.

        An attempt that another melt has published meanwhile keeps its number, and this one takes the next.

        Raises:
            StoreError: the disk is full or the folder is gone; nothing half-written is left under a run's name.
        """
        final = self.folder / manifest.run_id
        try:
            with alone(self.folder):
                taken = [m.attempt for m in self._attempts(manifest.cell_id, manifest.session)]
                if manifest.attempt in taken:
                    manifest = manifest.model_copy(update={"attempt": max(taken) + 1})
                (partial.folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
                sync(partial.folder)
                partial.folder.rename(final)
                sync_folder(self.folder)
        except OSError as e:
            self.discard(partial)
            raise cannot_write(final, e) from e
        partial.let_go()
        return Run(final, manifest)

    def discard(self, partial: Partial) -> None:
        """Forgets a run in the making."""
        shutil.rmtree(partial.folder, ignore_errors=True)
        partial.let_go()

    def _attempts(self, cell_id: str, session: int) -> Iterator[Manifest]:
        """Those at a cell's session that were published, by the names of their folders."""
        for path in self.folder.glob(f"*-{cell_id}-s{session:02d}-*/{MANIFEST}"):
            with contextlib.suppress(DamagedRunError, StoreError):
                _check_files(path.parent)
                yield read_manifest(path)

    def _sweep(self) -> None:
        """Removes what a killed melt left behind: partial folders that no process of any machine holds."""
        for left in self.folder.glob(f"{PARTIAL}*"):
            if not is_held(left):
                shutil.rmtree(left, ignore_errors=True)


def _check_files(folder: Path) -> None:
    """Raises DamagedRunError where a run's file is a link, which may lead to anything, or has no end, as a pipe."""
    for name in (MANIFEST, EVENTS, TELEMETRY, STDERR, PLAN):
        try:
            file = (folder / name).lstat()
        except OSError:
            continue  # not there, which whoever needs it tells
        if not stat.S_ISREG(file.st_mode):
            raise DamagedRunError(f"{name} is no regular file")
        limit = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_STREAM_BYTES
        if file.st_size > limit:
            raise DamagedRunError(f"{name} is larger than {limit // 2**20} MiB")


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The error for a results folder that refuses, with the advice that fits its reason."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Free some space; the same command then resumes." if full else "Name another --results."
    return StoreError(f"{path}: cannot be written: {error.strerror}", hint)


def _lines(path: Path) -> Iterator[str]:
    """A file's lines; of one that is longer than any of ours the beginning, which is still too long."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as f:
        while line := f.readline(MAX_LINE_CHARS + 1):
            rest = line
            while not rest.endswith("\n") and (rest := f.readline(MAX_LINE_CHARS)):
                pass
            if line.strip():
                yield line.rstrip("\n")
