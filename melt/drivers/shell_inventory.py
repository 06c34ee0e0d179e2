"""Reading many files of a device with one shell script, for a device that has no program of ours yet.

The answer is cut at a random word, so that no file's content is taken for the script's own words.
"""

import errno
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence

from melt.telemetry.source import Inventory, InventoryEntry

# bionic's words where they differ from this host's
_ERRNO_NAMES = {os.strerror(number): name for number, name in errno.errorcode.items()} | {
    "Try again": "EAGAIN",
    "No such file or directory": "ENOENT",
    "Permission denied": "EACCES",
    "Operation not permitted": "EPERM",
    "No data available": "ENODATA",
    "I/O error": "EIO",
}
MAX_TEXT_CHARS = 65536


def script_for(globs: Sequence[str], commands: Mapping[str, str], word: str) -> str:
    """A script for any POSIX shell: every file that the globs match, then every command's output, by its name.

    The globs and commands are melt's own and are put in as they are; names are quoted.
    """
    files = " ".join(globs)
    lines = [
        "export LC_ALL=C LANGUAGE=C",  # errors are told apart by their words
        f'for f in {files}; do [ -e "$f" ] || continue',
        f"echo '{word}<' \"$f\"; cat \"$f\" 2>&1; r=$?; echo; echo '{word}>' $r; done",
    ]
    for name, command in commands.items():
        lines.append(f"echo '{word}<' {shlex.quote(name)}; {{ {command}\n}} 2>&1; r=$?; echo; echo '{word}>' $r")
    return "\n".join([*lines, f"echo '{word}.'"])


def new_word() -> str:
    """A word that no file of a device holds."""
    return f"melt-{secrets.token_hex(8)}"


def parse_answer(text: str, word: str) -> Inventory:
    """What the script wrote.

    Raises:
        ValueError: its last line is missing: the shell ended before, and a device that seems to have fewer files than
            it has would pass for another one.
    """
    if not text.rstrip().endswith(f"{word}."):
        raise ValueError("the answer has no end")
    entries: list[InventoryEntry] = []
    name: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith(f"{word}< "):
            name, lines = line.removeprefix(f"{word}< "), []
        elif line.startswith(f"{word}> ") and name is not None:
            content = "\n".join(lines).removesuffix("\n")[:MAX_TEXT_CHARS]
            ok = line == f"{word}> 0"
            entries.append(InventoryEntry(path=name, **({"text": content} if ok else {"error": _errno_of(content)})))
            name = None
        else:
            lines.append(line)
    return Inventory(entries=tuple(entries))


def _errno_of(message: str) -> str:
    said = message.strip().rsplit(": ", 1)[-1]
    return _ERRNO_NAMES.get(said, "EIO")
