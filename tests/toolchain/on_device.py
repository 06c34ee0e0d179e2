"""What tests of building on a device share: this machine as the device, and a CMake that compiles nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from melt.drivers import connect
from melt.drivers.base import ShellDriver
from melt.drivers.profiles import load_profile
from melt.toolchain import build, on_device
from melt.util.files import cache_folder

# Says what it was called with, and "builds" a program out of the sources: what a test then finds in it, it was given.
CMAKE = """#!/bin/sh
case "$1" in
  --version) echo "cmake version 3.22.1" ;;
  --build)
    echo "[  7%] Building"; echo "[ 50%] of a nested project"; echo "[ 16%] Linking"
    cat source/native/* source/llama.cpp/src/* > build/melt-runner
    chmod +x build/melt-runner ;;
  *) echo "configured: $*"; mkdir -p build ;;
esac
"""
# Begins a program, and is never done.
SLOW = CMAKE.replace("cat source", "echo half > build/melt-runner; echo waiting; sleep 600; cat source")
FAILING = """#!/bin/sh
[ "$1" = --version ] && echo "cmake version 3.22.1" && exit
echo "engine.cpp:3:1: error: no such thing" >&2
exit 2
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellDriver]:
    """This machine as the device, with few sources and a CMake that compiles nothing."""
    put(tmp_path / "native" / "main.cpp", "exit # main 1\n")
    put(tmp_path / "llama" / "src" / "llama.cpp", "# llama\n")
    stub(tmp_path, monkeypatch, "cmake", CMAKE)
    for module in (build, on_device):
        monkeypatch.setattr(module, "native_sources", lambda: sorted((tmp_path / "native").iterdir()))
    monkeypatch.setattr(on_device, "llama_source", lambda: tmp_path / "llama")
    driver = connect(load_profile("local"))
    assert isinstance(driver, ShellDriver)
    yield driver
    driver.close()


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    put(tmp_path / "stubs" / name, text)
    (tmp_path / "stubs" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "stubs"), prepend=":")


def log() -> str:
    """Of the one build that there was."""
    (path,) = (cache_folder() / "toolchain").glob("on-device*.log")
    return path.read_text()
