"""melt's app on an iPhone: which it is, and whether it is one that this melt can use."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from melt.errors import DeviceError

# An app's id begins with a name of whoever signs it, so that melt's is known by its end.
SUFFIX = ".melt-runner"
OLDEST = (0, 2)  # from which on a run has files of its own
_HINT = "docs/ios.md says how to build and install it."


@dataclass(frozen=True)
class InstalledApp:
    """The app, its version, and its engine's where it says."""

    bundle_id: str
    version: str
    engine_version: str = ""


def find_app(apps: Iterable[Mapping[str, str]], name: str) -> InstalledApp:
    """melt's among those that are installed.

    Raises:
        DeviceError: it is not there, is too old, or is there twice.
    """
    installed = [a for a in apps if a.get("CFBundleIdentifier", "").endswith(SUFFIX)]
    if not installed:
        raise DeviceError(f"{name}: melt's app, whose id ends with {SUFFIX}, is not on the iPhone", _HINT)
    if len(installed) > 1:
        ids = ", ".join(sorted(a["CFBundleIdentifier"] for a in installed))
        raise DeviceError(f"{name}: melt's app is on the iPhone more than once: {ids}", "Remove all but one.")
    version = installed[0].get("CFBundleShortVersionString", "")
    if parse_version(version) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        had = version or "of no version"
        raise DeviceError(f"{name}: melt's app on the iPhone is {had}, and {wanted} or later is needed", _HINT)
    return InstalledApp(installed[0]["CFBundleIdentifier"], version, installed[0].get("MeltEngineVersion", ""))


def parse_version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; (0, 0) for what is none."""
    match = re.match(r"^([0-9]{1,6})(?:\.([0-9]{1,6}))?(?:\.|$)", text)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
