"""Archives of llama.cpp as its releases have them: llama-bench and its libraries, kept under a name."""

import gzip
import hashlib
import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from melt.errors import RunnerError
from melt.facts import DeviceFacts
from melt.paths import cache_folder
from melt.toolchain.elf import read_elf
from melt.toolchain.source import cannot_write
from melt.validation import did_you_mean

PROGRAM = "llama-bench"
RESERVED = ("auto", "python", "native")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
MAX_BYTES = 8 * 2**30  # unpacked
MAX_FILES = 10_000
_MAX_LINKS = 8  # from one name to the next
_LIBRARY = re.compile(r"lib[A-Za-z0-9._+-]+\.so(\.[0-9]+)*")
_RECORD = "program.json"
# RuntimeError: a zip with a password. NotImplementedError: a compression that this Python lacks.
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    UnicodeError,
)


class Program(BaseModel):
    """A llama-bench that was added. ``links`` are further names of the files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    archive: str
    machine: str
    system: str
    files: dict[str, str]  # name to sha256
    links: dict[str, str]  # name to the name of a file

    @property
    def folder(self) -> Path:
        """Where its files are on this host."""
        return _folder() / self.name

    @property
    def what(self) -> str:
        """What it is for, in words."""
        return f"llama-bench for {self.machine}, {self.system} (backend llamabench)"

    def fits(self, facts: DeviceFacts) -> bool:
        """Whether such a device can start it."""
        systems = ("android", "static") if facts.platform == "android" else ("glibc", "musl", "static")
        return self.machine == facts.machine and self.system in systems


def programs() -> list[Program]:
    """Every program that was added, by name."""
    found = []
    for path in sorted(_folder().glob(f"*/{_RECORD}")):
        try:
            found.append(Program.model_validate_json(path.read_text()))
        except (OSError, ValidationError) as e:
            raise RunnerError(
                f"{path}: is damaged", f"Remove the folder and add its archive again: {path.parent}"
            ) from e
    return found


def find_program(name: str) -> Program:
    """The program of this name.

    Raises:
        RunnerError: none was added under it.
    """
    known = {p.name: p for p in programs()}
    if name not in known:
        raise RunnerError(
            f"no llama-bench is named {name!r}{did_you_mean(name, known)}",
            f"Added: {', '.join(known) or 'none'}. Another: melt runner add ARCHIVE",
        )
    return known[name]


def remove_program(name: str) -> None:
    """Forgets a program and its files.

    Raises:
        RunnerError: there is none of this name, or it cannot be removed.
    """
    try:
        shutil.rmtree(find_program(name).folder)
    except OSError as e:
        raise cannot_write(_folder() / name, e) from e


def add_program(archive: Path, name: str | None = None) -> Program:
    """Takes llama-bench and its libraries out of a release archive; the same name is replaced.

    Raises:
        RunnerError: the archive cannot be read or holds no llama-bench, or the name is none.
    """
    name = name if name is not None else _name_of(archive)
    if not NAME.fullmatch(name) or name in RESERVED:
        raise RunnerError(f"{name!r} is no name for a runner", "Give it one of letters, digits and .-_: --name adreno")
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_folder(), prefix=".") as made:
            unpacked = Path(made) / "program"
            unpacked.mkdir()
            program = _read(archive, unpacked, name)
            (unpacked / _RECORD).write_text(program.model_dump_json(indent=1))
            if program.folder.exists():
                program.folder.rename(Path(made) / "replaced")
            unpacked.rename(program.folder)
        return program
    except OSError as e:
        raise cannot_write(_folder(), e) from e


def _folder() -> Path:
    return cache_folder() / "programs"


def _name_of(archive: Path) -> str:
    return re.sub(r"\.(zip|tar|tgz|tar\.\w+)$", "", archive.name)


def _read(archive: Path, folder: Path, name: str) -> Program:
    try:
        with archive.open("rb"):
            pass
    except OSError as e:
        raise RunnerError(f"{archive}: {e.strerror}", "Is that where it was downloaded to?") from e
    try:
        return _unpack(archive, folder, name)
    except (*_UNREADABLE, gzip.BadGzipFile) as e:
        raise RunnerError(f"{archive}: cannot be read as an archive: {e}", "Is it whole? Download it again.") from e


def _unpack(archive: Path, folder: Path, name: str) -> Program:
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    places: dict[str, str] = {}  # by name, the folder inside the archive
    for path, content, target in _members(archive):
        if path.name != PROGRAM and not _LIBRARY.fullmatch(path.name):
            continue
        if places.setdefault(path.name, str(path.parent)) != str(path.parent):
            raise RunnerError(f"{archive}: has {path.name} twice", "Is it an archive of one build of llama.cpp?")
        if content is None:
            links[path.name] = target
        else:
            digest = _keep(content, folder / path.name)
            same = next((name for name, other in files.items() if other == digest), None)
            if same is not None:  # a link that was packed as a copy need not travel twice
                (folder / path.name).unlink()
                links[path.name] = same
            else:
                files[path.name] = digest
    if PROGRAM not in files:
        raise RunnerError(f"{archive}: holds no {PROGRAM}", "Take the archive of a llama.cpp release, with its tools.")
    with (folder / PROGRAM).open("rb") as program:
        elf = read_elf(program)
    if elf is None:
        raise RunnerError(
            f"{archive}: its {PROGRAM} is no 64-bit Linux or Android program for x86-64 or Arm",
            "Take the release for the device's system.",
        )
    followed = {link: end for link in links if (end := _follow(link, links, files)) is not None}
    return Program(name=name, archive=archive.name, machine=elf.machine, system=elf.system, files=files, links=followed)


def _follow(name: str, links: Mapping[str, str], files: Mapping[str, str]) -> str | None:
    """The file that a link leads to by names inside the archive; None where it leads nowhere."""
    for _ in range(_MAX_LINKS):
        if name in files:
            return name
        if name not in links:
            return None
        name = PurePosixPath(links[name]).name
    return None


def _keep(content: IO[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    with content, path.open("wb") as out:
        while part := content.read(2**20):
            digest.update(part)
            out.write(part)
    path.chmod(0o755)
    return digest.hexdigest()


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes] | None, str]]:
    """Each file's path and content, or a link's path and target; nothing is written by their paths."""
    return _of_zip(archive) if zipfile.is_zipfile(archive) else _of_tar(archive)


def _of_tar(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes] | None, str]]:
    room, n_files = MAX_BYTES, 0
    with tarfile.open(archive) as tar:
        for member in tar:
            room, n_files = room - member.size, n_files + 1
            _check_size(archive, room, n_files)
            if member.isfile():
                yield PurePosixPath(member.name), tar.extractfile(member), ""
            elif member.issym() or member.islnk():
                yield PurePosixPath(member.name), None, member.linkname


def _of_zip(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes] | None, str]]:
    with zipfile.ZipFile(archive) as members:
        infos = members.infolist()
        _check_size(archive, MAX_BYTES - sum(i.file_size for i in infos), len(infos))
        for info in infos:
            is_link = info.external_attr >> 28 == 0xA  # S_IFLNK, as Unix zips keep it
            if is_link:
                yield PurePosixPath(info.filename), None, members.read(info).decode()
            elif not info.is_dir():
                yield PurePosixPath(info.filename), members.open(info), ""


def _check_size(archive: Path, room_bytes: int, n_files: int) -> None:
    if room_bytes < 0 or n_files > MAX_FILES:
        raise RunnerError(f"{archive}: unpacks to more than any llama.cpp is", "Is it the right file?")
