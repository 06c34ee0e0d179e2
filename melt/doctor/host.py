"""The checks of the machine that melt itself runs on."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from melt.backends import backend_names, load_backend
from melt.drivers import ask_drivers, driver_names
from melt.drivers.profiles import load_profile, profile_paths, user_folder
from melt.errors import MeltError
from melt.spec.check import LOW_DISK_BYTES, Check, State
from melt.telemetry.registry import registry
from melt.util.files import cache_folder


def check_host() -> list[Check]:
    """The machine that melt itself runs on."""
    return [
        Check("Python", "ok", f"{platform.python_version()}, melt-bench {version('melt-bench')}"),
        _disk(cache_folder()),
        Check("drivers", "ok", ", ".join(driver_names())),
        *_drivers(),
        *_backends(),
        *_sensors(),
        *_profiles(),
    ]


def _drivers() -> list[Check]:
    """What each driver finds of this host; one whose packages are missing says so."""
    checks: list[Check] = []
    for name, answer in ask_drivers(lambda driver: driver.checks()).items():
        if isinstance(answer, MeltError):
            fix = f"{answer.hint.removesuffix('.')}. Only devices with driver: {name} need it."
            checks.append(Check(f"driver {name}", "warning", answer.message, fix))
        else:
            checks += answer
    return checks


def _backends() -> list[Check]:
    """Those that are installed, their options, and what each finds of this host."""
    checks = [Check("backends", "ok", ", ".join(backend_names()))]
    for name in backend_names():
        try:
            backend = load_backend(name)
            checks += [Check(f"backend {name}", "ok", f"option {option.described}") for option in backend.options]
            checks += backend.checks()
        except MeltError as e:
            checks.append(Check(f"backend {name}", "problem", e.message, e.hint))
    return checks


def _sensors() -> list[Check]:
    """The kinds of sensors that are looked for on devices, and those that cannot be."""
    known = registry()
    broken = [Check(a.name, "warning", a.reason, a.hint) for a in known.broken]
    return [Check("sensors", "ok", ", ".join(known.kinds)), *broken]


def _disk(folder: Path) -> Check:
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check("cache", "problem", f"{folder} cannot be written", "Set MELT_CACHE to a folder that can be.")
    free = shutil.disk_usage(there).free
    found = f"{free / 2**30:.1f} GiB free for models in {folder}"
    state: State = "ok" if free > LOW_DISK_BYTES else "warning"
    return Check("disk", state, found, "Free some space, `melt models cache --limit 5GB`, or set MELT_CACHE.")


def _profiles() -> list[Check]:
    out = []
    for name in profile_paths():
        try:
            load_profile(name)
        except MeltError as e:
            out.append(Check(f"profile {name}", "problem", e.message, e.hint))
    return out or [Check("profiles", "ok", f"{', '.join(profile_paths())}; your own go into {user_folder()}")]
