"""A Linux board or server by SSH. See ``melt.drivers.base.ShellDriver``."""

import contextlib
import json
import re

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.conditions import Knobs, RemoteConditions
from melt.drivers.remote.driver import RemoteDriver
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.conditions import board_conditions, settings
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError, MeltError
from melt.runner import engines_question
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import linux
from melt.telemetry.source import Discovery, Inventory

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
_LOG_LINES = 3


def connect(profile: DeviceProfile) -> "SshDriver":
    """The host of a profile.

    Raises:
        DeviceError: it is not there, or refuses us; says what to do.
    """
    return SshDriver(profile)


class SshDriver(RemoteDriver):
    """What is a Linux machine's own."""

    def __init__(self, profile: DeviceProfile) -> None:
        self._inventory: Inventory | None = None
        super().__init__(profile, self._open, profile.work_folder or WORK_FOLDER, self._conditions_of)

    def _open(self) -> Remote:
        remote = SshRemote(open_way(self._profile), self._profile.name)
        self._inventory = None  # of another boot, maybe
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

    def _conditions_of(self, remote: Remote, saved: str) -> RemoteConditions:
        knobs = Knobs("Linux", settings(saved), lambda: board_conditions(self._read_inventory()))
        return RemoteConditions(remote, saved, knobs)

    def facts(self) -> DeviceFacts:
        """What the host says of itself."""
        inventory = self._read_inventory()
        return linux.facts(inventory, _python(inventory))

    def discover(self) -> Discovery:
        """The telemetry that this user may read there."""
        return linux.discover(self._read_inventory(), self._profile.sensors)

    def _read_inventory(self) -> Inventory:
        if self._inventory is None:
            files = [g for g in linux.inventory_globs() if g.startswith("/")]  # the others are words of the runner's
            self._inventory = self._ask(files, linux.inventory_commands() | COMMANDS)
        return self._inventory

    def death_notes(self, pid: int | None) -> str:
        """The kernel log's last lines about this process, where the user may read it."""
        script = "dmesg --raw 2>/dev/null || dmesg 2>/dev/null || journalctl -k -n 500 -o cat 2>/dev/null"
        named = re.compile(rf"\[{pid}\]|process {pid}\b")
        with contextlib.suppress(MeltError):
            lines = run_command(self._remote, f"{{ {script}; }} | grep -F {quoted(str(pid))}; true").text.splitlines()
            return "\n".join([line for line in lines if named.search(line)][-_LOG_LINES:])
        return ""


def _python(inventory: Inventory) -> dict[str, object]:
    """The interpreter and engines there, where it is one that the Python runner can be started with."""
    try:
        told = json.loads(inventory.text(_PYTHON) or "")
        python, version, engines = str(told["python"]), tuple(told["version"]), dict(told["engines"])
        if version < OLDEST_PYTHON or not python.startswith("/"):
            return {}
        return {"python": python, "engines": {str(k): str(v) for k, v in engines.items()}}
    except (ValueError, KeyError, TypeError):
        return {}
