"""Programs of aarch64 run on another processor through the kernel's binfmt_misc and qemu-user."""

import platform
import shutil
import subprocess
from pathlib import Path

from tests.doubles.phone.namespaces import BoxUnavailable

FOLDER = Path("/proc/sys/fs/binfmt_misc")
MACHINE = "b700"  # aarch64 in an ELF header
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def ensure_aarch64() -> None:
    """Registers qemu for programs of aarch64, where nobody has; it stays registered, for other boxes too.

    The flag F opens qemu now, so that it is found from within any root.
    """
    if platform.machine() == "aarch64":
        return
    if not (FOLDER / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", FOLDER], capture_output=True, check=False)
    qemu = shutil.which("qemu-aarch64-static")
    if not qemu or not (FOLDER / "register").exists():
        raise BoxUnavailable("programs of aarch64 need qemu-user-static and the kernel's binfmt_misc")
    if not _registered():
        try:
            (FOLDER / "register").write_text(f":melt-aarch64:M::{MAGIC}:{MASK}:{qemu}:F")
        except FileExistsError:  # by another test run, just now
            return


def _registered() -> bool:
    entries = [file.read_text() for file in FOLDER.iterdir() if file.name not in ("register", "status")]
    return any("\nmagic 7f454c46" in text and MACHINE in text and text.startswith("enabled") for text in entries)
