"""A Linux board or server by SSH. See ``melt.drivers.base.ShellDriver``."""

import json
from typing import Any

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.linux import LinuxDriver
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError
from melt.runner import engines_question
from melt.spec.profile import DeviceProfile
from melt.telemetry import linux
from melt.telemetry.source import Inventory

_PYTHON = "python"
COMMANDS = {
    "uname:machine": "uname -m",
    "uname:release": "uname -r",
    "uname:version": "uname -v",
    "sysconf:SC_PAGE_SIZE": "getconf PAGE_SIZE",
    "sysconf:SC_CLK_TCK": "getconf CLK_TCK",
    _PYTHON: f"python3 -c {quoted(engines_question())} 2>/dev/null",
}
OLDEST_PYTHON = (3, 8)
WORK_FOLDER = ".cache/melt"  # in the user's home there


def connect(profile: DeviceProfile) -> "SshDriver":
    """The host of a profile.

    Raises:
        DeviceError: it is not there, or refuses us; says what to do.
    """
    return SshDriver(profile)


class SshDriver(LinuxDriver):
    """What is SSH's own."""

    def __init__(self, profile: DeviceProfile) -> None:
        super().__init__(profile, self._open, profile.work_folder or WORK_FOLDER)

    def _open(self) -> Remote:
        remote = SshRemote(open_way(self._profile), self._profile.name)
        if not self._folder.startswith("/"):
            said = run_command(remote, 'echo "$HOME"').text.splitlines() or [""]
            home = said[-1].strip()  # some shells greet first
            if not home.startswith("/"):
                remote.close()
                raise DeviceError(
                    f"{self._profile.name}: the user there has no home", "Name a work_folder in the profile."
                )
            self._folder = f"{home}/{self._folder.removeprefix('~/')}"
        return remote

    def _read_inventory(self) -> tuple[Inventory, dict[str, Any]]:
        files = [g for g in linux.inventory_globs() if g.startswith("/")]  # the others are words of the runner's
        asked = {} if self._profile.sensors.root else linux.inventory_commands()  # nothing of another machine's tree
        inventory = self._ask(files, COMMANDS | asked)
        return inventory, _python(inventory)


def _python(inventory: Inventory) -> dict[str, Any]:
    """The interpreter and engines there, where it is one that the Python runner can be started with."""
    try:
        told = json.loads(inventory.text(_PYTHON) or "")
        python, version, engines = str(told["python"]), tuple(told["version"]), dict(told["engines"])
        if version < OLDEST_PYTHON or not python.startswith("/"):
            return {}
        return {"python": python, "engines": {str(k): str(v) for k, v in engines.items()}}
    except (ValueError, KeyError, TypeError):
        return {}
