"""A Linux machine, however its shell is reached: its facts, its sensors, its conditions and its kernel's log."""

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

from melt.drivers.remote.base import Remote, quoted
from melt.drivers.remote.conditions import RemoteConditions
from melt.drivers.remote.driver import RemoteDriver
from melt.drivers.remote.knobs import Knobs
from melt.drivers.remote.linux_conditions import linux_conditions, linux_knobs
from melt.drivers.remote.process import run_command
from melt.errors import MeltError
from melt.runner import engines_question
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry import linux
from melt.telemetry.linux_facts import SYSTEM
from melt.telemetry.source import Discovery, Inventory

_PYTHON = "python"
COMMANDS = {
    **SYSTEM,
    _PYTHON: f"python3 -c {quoted(engines_question())} 2>/dev/null",
}
OLDEST_PYTHON = (3, 8)
_LOG_LINES = 3


class LinuxDriver(RemoteDriver):
    """The part of a driver that knows that the device is Linux."""

    def __init__(self, profile: DeviceProfile, opener: Callable[[], Remote], folder: str) -> None:
        self._asked: tuple[Inventory, dict[str, Any]] | None = None
        super().__init__(profile, opener, folder, self._conditions_of)

    def _connect(self) -> None:
        self._asked = None  # of another boot, maybe
        super()._connect()

    def _conditions_of(self, remote: Remote, saved: str) -> RemoteConditions:
        root = self._profile.sensors.root
        knobs = Knobs("Linux", linux_knobs(saved, root), lambda: linux_conditions(self._inventory()), root)
        return RemoteConditions(remote, saved, knobs)

    def _read_inventory(self) -> tuple[Inventory, dict[str, Any]]:
        """What is read of the machine, and of its Python: ``python`` and ``engines``, or nothing."""
        files = [g for g in linux.inventory_globs() if g.startswith("/")]  # the others are words of the runner's
        programs = {} if self._profile.sensors.root else linux.inventory_commands()  # nothing of another machine's tree
        inventory = self._ask(files, COMMANDS | programs)
        return inventory, parse_python(inventory.text(_PYTHON) or "")

    def _inventory(self) -> Inventory:
        if self._asked is None:
            self._asked = self._read_inventory()
        return self._asked[0]

    def facts(self) -> DeviceFacts:
        """What the machine says of itself."""
        inventory = self._inventory()
        return linux.facts(inventory, self._asked[1] if self._asked else {})

    def discover(self) -> Discovery:
        """The telemetry that this user may read there."""
        return linux.discover(self._inventory(), self._profile.sensors)

    def death_notes(self, pid: int | None) -> str:
        """The kernel log's last lines about this process, where the user may read it."""
        script = "dmesg --raw 2>/dev/null || dmesg 2>/dev/null || journalctl -k -n 500 -o cat 2>/dev/null"
        named = re.compile(rf"\[{pid}\]|process {pid}\b")
        with contextlib.suppress(MeltError):
            lines = run_command(self._remote, f"{{ {script}; }} | grep -F {quoted(str(pid))}; true").text.splitlines()
            return "\n".join([line for line in lines if named.search(line)][-_LOG_LINES:])
        return ""


def parse_python(answer: str) -> dict[str, Any]:
    """The interpreter and engines there, where it is one that the Python runner can be started with."""
    try:
        python = json.loads(answer)
        path, version, engines = str(python["python"]), tuple(python["version"]), dict(python["engines"])
        if version < OLDEST_PYTHON or not path.startswith("/"):
            return {}
        return {"python": path, "engines": {str(k): str(v) for k, v in engines.items()}}
    except (ValueError, KeyError, TypeError):
        return {}
