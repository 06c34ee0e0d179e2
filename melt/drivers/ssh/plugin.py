"""The SSH driver as melt sees it: boards and other Linux hosts."""

from melt.drivers.base import Driver
from melt.drivers.plugin import Agree, DriverPlugin
from melt.drivers.ssh.address import SshAddress
from melt.spec.profile import DeviceProfile


class SshPlugin(DriverPlugin):
    """By ``paramiko``, which is imported where it is needed."""

    Address = SshAddress
    install = "pip install 'melt-bench[ssh]'"

    def connect(self, profile: DeviceProfile) -> Driver:
        """The host of a profile."""
        from melt.drivers.ssh.driver import connect

        return connect(profile)

    def enrol(self, profile: DeviceProfile, agree: Agree) -> str:
        """Keeps the keys of the host, and of those on the way to it, where ``ssh`` keeps its own."""
        from melt.drivers.ssh.connect import enrol, unknown_keys

        kept = ""
        for shown in unknown_keys(profile):
            agree(f"{shown.host.entry} {shown.key.get_name()} {shown.fingerprint}")
            kept = str(enrol(shown))
        return kept
