"""The checks of the machine that melt itself runs on."""

import importlib.util
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from melt.backends import backend_names, load_backend
from melt.drivers import ask_drivers, driver_names
from melt.drivers.profiles import load_profile, profile_paths
from melt.errors import MeltError
from melt.spec.check import LOW_DISK_BYTES, Check, State
from melt.telemetry.registry import registry
from melt.toolchain.compilers import identity, program
from melt.toolchain.targets import TARGETS
from melt.util.files import cache_folder


def check_host() -> list[Check]:
    """The machine that melt itself runs on."""
    return [
        Check("Python", "ok", f"{platform.python_version()}, melt-bench {version('melt-bench')}"),
        _engine("llama_cpp", "llama-cpp-python"),
        _native_runner(),
        _disk(cache_folder()),
        Check("drivers", "ok", ", ".join(driver_names())),
        *_drivers(),
        *_backends(),
        *_sensors(),
        *_profiles(),
    ]


def _engine(module: str, distribution: str) -> Check:
    if importlib.util.find_spec(module) is None:
        fix = "pip install 'melt-bench[local]' (it compiles for some minutes); not needed to measure other devices."
        return Check(distribution, "warning", "not installed, so this machine itself cannot be measured", fix)
    return Check(distribution, "ok", version(distribution))


def _drivers() -> list[Check]:
    """What each driver finds of this host; one whose packages are missing says so."""
    checks: list[Check] = []
    for name, answer in ask_drivers(lambda driver: driver.checks()).items():
        if isinstance(answer, MeltError):
            fix = f"{answer.hint} Only devices with driver: {name} need it."
            checks.append(Check(f"driver {name}", "warning", answer.message, fix))
        else:
            checks += answer
    return checks


def _backends() -> list[Check]:
    """Those that are installed, and the options of those that have any."""
    checks = [Check("backends", "ok", ", ".join(backend_names()))]
    for name in backend_names():
        try:
            options = load_backend(name).options
        except MeltError as e:
            checks.append(Check(f"backend {name}", "problem", e.message, e.hint))
            continue
        checks += [Check(f"backend {name}", "ok", f"option {option.described}") for option in options]
    return checks


def _sensors() -> list[Check]:
    """The kinds of sensors that are looked for on devices, and those that cannot be."""
    known = registry()
    broken = [Check(a.name, "warning", a.reason, a.hint) for a in known.broken]
    return [Check("sensors", "ok", ", ".join(known.kinds)), *broken]


def _native_runner() -> Check:
    missing: dict[str, str] = {}
    for name in ("host", "linux-aarch64-musl"):
        try:
            identity(TARGETS[name])
        except MeltError as e:
            missing[e.message] = e.hint
    for tool in ("cmake", "ninja"):
        try:
            program(tool)
        except MeltError as e:
            missing[e.message] = e.hint
    if not missing:
        return Check("native runner", "ok", "can be built: melt runner list")
    found = f"cannot be built for everything: {'; '.join(missing)}"
    return Check("native runner", "warning", found, " ".join(dict.fromkeys(missing.values())))


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
    return out or [Check("profiles", "ok", ", ".join(profile_paths()))]
