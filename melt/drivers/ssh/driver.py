"""A Linux board or server by SSH. See ``melt.drivers.base.ShellDriver``."""

from melt.drivers.remote.base import Remote
from melt.drivers.remote.linux import LinuxDriver
from melt.drivers.remote.process import run_command
from melt.drivers.ssh.connect import open_way
from melt.drivers.ssh.remote import SshRemote
from melt.errors import DeviceError
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
