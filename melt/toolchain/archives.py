"""Archives of llama.cpp as its releases have them: llama-bench and its libraries, kept under a name.

CACHE/programs/NAME.json               what was added under a name
CACHE/programs/files/<sha256>/<file>   a file of any of them, so that another archive under a name touches no run
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from melt.errors import RunnerError
from melt.spec.cell import OWN_RUNNERS
from melt.spec.facts import DeviceFacts
from melt.toolchain.elf import read_elf
from melt.toolchain.source import cannot_write
from melt.toolchain.unpacking import Member, members
from melt.util.files import cache_folder, write_whole
from melt.util.yaml import did_you_mean

PROGRAM = "llama-bench"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MAX_LINKS = 8  # from one name to the next
_LIBRARY = re.compile(r"lib[A-Za-z0-9._+-]{1,100}\.so(\.[0-9]+)*")


class Program(BaseModel):
    """A llama-bench that was added. ``links`` are further names of the files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    archive: str
    machine: str
    system: str
    files: dict[str, str]  # name to sha256
    links: dict[str, str]  # name to the name of a file

    def path_of(self, name: str) -> Path:
        """Where one of its files is on this host."""
        return _place(self.files[name], name)

    @property
    def what(self) -> str:
        """What it is for, in words."""
        return f"llama-bench for {self.machine}, {self.system} (backend llamabench)"

    def fits(self, facts: DeviceFacts) -> bool:
        """Whether such a device can start it."""
        systems = ("android", "static") if facts.platform == "android" else ("glibc", "musl", "static")
        return self.machine == facts.machine and self.system in systems


def programs() -> list[Program]:
    """Every program that was added, by name; damaged records are left out."""
    found = (_read_record(path) for path in sorted(_folder().glob("*.json")))
    return [program for program in found if program is not None]


def damaged_programs() -> list[str]:
    """The names whose records cannot be read."""
    return [path.stem for path in sorted(_folder().glob("*.json")) if _read_record(path) is None]


def _read_record(path: Path) -> Program | None:
    try:
        return Program.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError):
        return None


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
    """Forgets a program, and those of its files that no other has.

    Raises:
        RunnerError: there is none of this name, or it cannot be removed.
    """
    if name not in damaged_programs():
        find_program(name)
    try:
        (_folder() / f"{name}.json").unlink()
        kept = {sha256 for program in programs() for sha256 in program.files.values()}
        for folder in (_folder() / "files").glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder)
    except OSError as e:
        raise cannot_write(_folder() / name, e) from e


def add_program(archive: Path, name: str | None = None) -> Program:
    """Takes llama-bench and its libraries out of a release archive; the same name is replaced.

    Raises:
        RunnerError: the archive cannot be read or holds no llama-bench, or the name is none.
    """
    name = name if name is not None else re.sub(r"\.(zip|tar|tgz|tar\.\w+)$", "", archive.name)
    if not NAME.fullmatch(name) or name in OWN_RUNNERS:
        raise RunnerError(f"{name!r} is no name for a runner", "Give it one of letters, digits and .-_: --name adreno")
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_folder(), prefix=".") as made:
            program = _unpack(archive, Path(made), name)
            for file, sha256 in program.files.items():
                place = _place(sha256, file)
                place.parent.mkdir(parents=True, exist_ok=True)
                (Path(made) / file).replace(place)
        write_whole(_folder() / f"{name}.json", program.model_dump_json(indent=1).encode())
        return program
    except OSError as e:
        raise cannot_write(_folder(), e) from e


def _folder() -> Path:
    return cache_folder() / "programs"


def _place(sha256: str, name: str) -> Path:
    return _folder() / "files" / sha256 / name


def _unpack(archive: Path, folder: Path, name: str) -> Program:
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for member in members(archive, _is_wanted):
        one = member.path.name
        if one in files or one in links:
            raise RunnerError(f"{archive}: has {one} twice", "Is it an archive of one build of llama.cpp?")
        _take(member, folder, files, links)
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


def _is_wanted(path: PurePosixPath) -> bool:
    return path.name == PROGRAM or _LIBRARY.fullmatch(path.name) is not None


def _take(member: Member, folder: Path, files: dict[str, str], links: dict[str, str]) -> None:
    name = member.path.name
    if member.content is None:
        links[name] = PurePosixPath(member.target).name
        return
    digest = _keep(member.content, folder / name)
    same = next((other for other, sha256 in files.items() if sha256 == digest and other != PROGRAM), None)
    if same is None or name == PROGRAM:
        files[name] = digest
    else:  # a link that was packed as a copy need not travel twice
        (folder / name).unlink()
        links[name] = same


def _follow(name: str, links: Mapping[str, str], files: Mapping[str, str]) -> str | None:
    """The file that a link leads to by names inside the archive; None where it leads nowhere."""
    for _ in range(_MAX_LINKS):
        if name in files:
            return name
        if name not in links:
            return None
        name = links[name]
    return None


def _keep(content: IO[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    with content, path.open("wb") as out:
        while part := content.read(2**20):
            digest.update(part)
            out.write(part)
    path.chmod(0o755)
    return digest.hexdigest()
