"""What `make` installs is pinned with hashes, and is what pyproject.toml asks for (`make locks` writes it)."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
BUILDERS: list[str] = PROJECT["dependency-groups"]["builders"]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
ASKED = {
    "builders": [*BUILDERS, *PROJECT["build-system"]["requires"]],
    "melt": PROJECT["project"]["dependencies"],
    "local": [*PROJECT["project"]["dependencies"], *EXTRAS["local"]],
    "dev": [
        *BUILDERS,
        *PROJECT["project"]["dependencies"],
        *(r for extra in EXTRAS if extra not in ("farm", "all") for r in EXTRAS[extra]),
    ],
}


def pins(lock: Path) -> dict[str, tuple[Version, int]]:
    """Of each package its version and how many hashes it has."""
    found: dict[str, tuple[Version, int]] = {}
    for entry in re.split(r"\n(?=\S)", lock.read_text()):
        if pinned := re.match(r"([\w.-]+)==([^\s;\\]+)", entry):
            found[canonicalize_name(pinned[1])] = (
                Version(pinned[2]),
                len(re.findall("--hash=sha256:[0-9a-f]{64}", entry)),
            )
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_all_that_is_asked_for_with_hashes(lock: Path) -> None:
    pinned = pins(lock)
    assert all(hashes for _, hashes in pinned.values())
    for asked in map(Requirement, ASKED[lock.stem]):
        version, _ = pinned[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version, prereleases=True), asked


def test_the_locks_agree() -> None:
    every = pins(ROOT / "locks" / "dev.txt")
    for lock in LOCKS:
        assert pins(lock).items() <= every.items()


def test_make_installs_nothing_else() -> None:
    """A command of pip's takes a lock with hashes, or melt itself and nothing that it needs."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    commands = [line.strip() for line in lines if re.search(r"\$\((PIP|LOCKED)\)", line)]
    allowed = [
        r"LOCKED := \$\(PIP\) install --quiet --require-hashes",
        r"\$\(LOCKED\)( --no-build-isolation)? -r locks/\w+\.txt",
        r"\$\(PIP\) install --quiet --no-deps --no-build-isolation --editable \.",
    ]
    assert len(commands) >= 5
    for command in commands:
        assert any(re.fullmatch(one, command) for one in allowed), command
