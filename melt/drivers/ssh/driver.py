"""A Linux board or server by SSH. See ``melt.drivers.base.ShellDriver``."""

from melt.drivers.remote.base import Remote
from melt.drivers.remote.driver import HOME
from melt.drivers.remote.linux import LinuxDriver
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.spec.profile import DeviceProfile

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
        folder = profile.work_folder or WORK_FOLDER
        in_home = folder if folder.startswith(("/", HOME)) else f"{HOME}/{folder}"
        super().__init__(profile, self._open, in_home)

    def _open(self) -> Remote:
        return SshRemote(open_way(self._profile), self._profile.name)
