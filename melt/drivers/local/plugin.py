"""The local driver as melt sees it: this machine itself."""

from melt.drivers.base import Driver
from melt.drivers.local.driver import connect
from melt.drivers.plugin import DriverPlugin
from melt.spec.profile import DeviceProfile


class LocalPlugin(DriverPlugin):
    """It needs no address, and is always there."""

    is_host = True

    def connect(self, profile: DeviceProfile) -> Driver:
        """This machine."""
        return connect(profile)
