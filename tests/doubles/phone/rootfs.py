"""Lays a recorded phone out as files: its tools, its trees and what the stub tools answer with.

The files of a stub live in ``/mnt/box``: ``answers/COMMAND/{stdout,stderr,exit}``, ``properties/KEY``,
``settings/NAMESPACE/KEY``, ``state/`` for what else has been set, ``live/`` for what the live world shows, and
``commands``, the log of every call.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.doubles.phone.init import SHELL_USER
from tests.doubles.phone.namespaces import HERE
from tests.doubles.phone.recording import Machine, Recording

BOX = "mnt/box"
UNIT, RECORD = "\037", "\036"  # between a call's words, and after each call

# Debian's toybox has these, Android's has not.
NOT_ON_ANDROID = {"crc32", "factor", "httpd", "login", "passwd", "pwgen", "rev", "sha3sum", "su", "w", "wget", "who"}
# What the kernel says of itself, and of the processes in the box, is better than a recording; it may be denied.
LIVE_PROC = ("/proc/uptime", "/proc/stat", "/proc/vmstat", "/proc/loadavg", "/proc/self/", "/proc/sys/", "/proc/net/")


def build(root: Path, overlay: Path, recording: Recording, machine: Machine) -> None:
    """Fills the box's root, and the folder of files that each boot lays over its /proc."""
    _put(root / "etc/passwd", "root:x:0:0::/:/bin/sh\nshell:x:2000:2000::/:/bin/sh\n")
    _put(root / "etc/group", "root:x:0:\nlog:x:1007:\nadb:x:1011:\nshell:x:2000:\ninet:x:3003:\nreadproc:x:3009:\n")
    _put(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\n")
    _lay_tools(root / "system/bin", recording, machine)
    _lay_tree(root, overlay, recording)
    _lay_answers(root / BOX, recording)


def write_answer(box: Path, command: str, stdout: str, stderr: str = "", exit_code: int = 0) -> None:
    """What a stub gives from now on for exactly this command line, words joined by single spaces."""
    folder = box / "answers" / command.replace("/", "%")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"stdout": stdout, "stderr": stderr, "exit": f"{exit_code}\n"}.items():
        _put(folder / name, text)


def put_file(root: Path, overlay: Path, path: str, text: str) -> Path:
    """Lays one file at a path of the phone, or writes it in place, so that open files see it too.

    Returns:
        Where it lies: what belongs to /proc is laid over it from elsewhere.
    """
    file = overlay / path.removeprefix("/proc/") if path.startswith("/proc/") else root / path[1:]
    _put(file, text)
    return file


def deny_file(root: Path, overlay: Path, path: str) -> Path:
    """Makes a path refuse the shell user; a folder can still be passed through, as SELinux lets it."""
    at = overlay / path.removeprefix("/proc/") if path.startswith("/proc/") else root / path[1:]
    if not at.exists():
        put_file(root, overlay, path, "")
    at.chmod(0o711 if at.is_dir() else 0)
    return at


def _put(file: Path, text: str, mode: int = 0o644) -> None:
    _folder(file.parent)
    new = not file.exists()
    data = text.encode()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, mode)
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        if new:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _folder(folder: Path) -> None:
    if not folder.exists():
        _folder(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def _lay_tools(folder: Path, recording: Recording, machine: Machine) -> None:
    for source, name in {"mksh": "sh", "toybox": "toybox"}.items():
        shutil.copyfile(_which(source), folder / name)
        (folder / name).chmod(0o755)
    applets = subprocess.run([folder / "toybox"], capture_output=True, text=True, check=True).stdout.split()
    for applet in set(applets) - NOT_ON_ANDROID:
        (folder / applet).symlink_to("toybox")
    for tool in (HERE / "tools").iterdir():
        (folder / tool.name).unlink(missing_ok=True)
        _put(folder / tool.name, tool.read_text(encoding="utf-8"), 0o755)
    if machine == "x86_64":
        (folder / "linker64").symlink_to("/lib64/ld-linux-x86-64.so.2")  # programs for Android name this loader
        (folder / "uname").unlink()
        (folder / "uname").symlink_to("toybox")


def _which(program: str) -> str:
    found = shutil.which(program)
    assert found, program
    return found


def _lay_tree(root: Path, overlay: Path, recording: Recording) -> None:
    for path, text in recording.tree.items():
        if path.startswith("/") and not path.startswith(LIVE_PROC):
            put_file(root, overlay, path, text).chmod(0o444)
    for path in sorted(recording.denied):
        if path.startswith("/"):
            deny_file(root, overlay, path)


def _lay_answers(box: Path, recording: Recording) -> None:
    for script in ("lib.sh", "battery.sh"):
        _put(box / script, (HERE / script).read_text(encoding="utf-8"))
    for name in ("answers", "live"):
        _folder(box / name)
    for name in ("properties", "settings", "state"):
        _folder(box / name)
        os.chown(box / name, SHELL_USER, SHELL_USER)
    for name, text in {"commands": "", "logcat": recording.log}.items():
        _put(box / name, text)
        os.chown(box / name, SHELL_USER, SHELL_USER)
    for key, value in recording.properties.items():
        with contextlib.suppress(OSError):  # a name that no file can have
            _put(box / "properties" / key, value + "\n")
    for command, text in recording.answers.items():
        write_answer(box, command, text)
    if release := recording.tree.get("uname:release"):
        _put(box / "uname-release", release + "\n")
