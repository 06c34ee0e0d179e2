"""Packages of somebody else's, installed as pip does it, and melt with them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.cli import without_second_tries

TESTS = Path(__file__).parents[1]


def install(package: str, folder: Path) -> Path:
    """Installs a package of ``tests/``; the folder that Python finds it in."""
    source, site = folder / "source" / package, folder / "site"
    shutil.copytree(TESTS / package, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(site), str(source)], check=True, capture_output=True)
    return site


def melt_with(site: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A melt command with that folder's packages."""
    return python_with(site, str(Path(sys.executable).with_name("melt")), *without_second_tries(words))


def python_with(site: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A Python script or ``-c`` and its code, with that folder's packages."""
    folders = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
