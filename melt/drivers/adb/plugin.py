"""The adb driver as melt sees it: Android phones."""

from collections.abc import Sequence

from melt.drivers.adb.address import AdbAddress
from melt.drivers.base import Driver
from melt.drivers.plugin import Attached, DriverPlugin
from melt.spec.profile import DeviceProfile


class AdbPlugin(DriverPlugin):
    """Through an adb server where there is one, else by itself, for which ``adb-shell`` has to be installed."""

    Address = AdbAddress
    install = "pip install 'melt-bench[adb]'"

    def connect(self, profile: DeviceProfile) -> Driver:
        """The phone of a profile."""
        from melt.drivers.adb.driver import connect

        return connect(profile)

    def attached(self) -> Sequence[Attached]:
        """Every phone that adb knows, or that is on a cable."""
        from melt.drivers.adb.phones import attached

        return [
            Attached("Android phone", phone.serial, phone.model.replace("_", " "), problem)
            for phone, problem in attached()
        ]
