"""What melt sees of the driver: how a profile names an agent, which agents are there, and what is wrong."""

import os
from collections.abc import Sequence
from pathlib import Path

from melt.drivers.base import Driver
from melt.drivers.plugin import Address, Attached, DriverPlugin
from melt.drivers.remote.linux import LinuxDriver
from melt.errors import DeviceError
from melt.spec.check import Check
from melt.spec.profile import DeviceProfile

from .remote import AgentRemote


class AgentAddress(Address):
    socket: str = ""


class AgentPlugin(DriverPlugin):
    Address = AgentAddress

    def connect(self, profile: DeviceProfile) -> Driver:
        path = AgentAddress.of(profile).socket
        if not path:
            raise DeviceError(f"{profile.name}: names no agent", "address: {socket: PATH}")
        work_folder = profile.work_folder or "/var/tmp/melt"
        return LinuxDriver(profile, lambda: AgentRemote(profile.name, path), work_folder)

    def attached(self) -> Sequence[Attached]:
        return [Attached("agent", str(path)) for path in sorted(_folder().glob("*.sock"))]

    def checks(self) -> Sequence[Check]:
        if _folder().is_dir():
            return [Check("agents", "ok", f"{len(self.attached())} in {_folder()}")]
        return [Check("agents", "warning", f"{_folder()} is not there", "Start one: python3 agent.py SOCKET")]


def _folder() -> Path:
    return Path(os.environ.get("MELT_AGENTS", "/run/melt-agents"))
