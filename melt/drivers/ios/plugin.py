"""The iOS driver as melt sees it: iPhones."""

from collections.abc import Sequence

from melt.drivers.base import Driver
from melt.drivers.ios.address import IosAddress
from melt.drivers.plugin import Attached, DriverPlugin
from melt.errors import DeviceError
from melt.spec.check import Check
from melt.spec.profile import DeviceProfile


class IosPlugin(DriverPlugin):
    """By ``pymobiledevice3``, which is imported where it is needed."""

    Address = IosAddress
    install = "pip install 'melt-bench[ios]'"

    def connect(self, profile: DeviceProfile) -> Driver:
        """The iPhone of a profile."""
        from melt.drivers.ios.driver import connect

        return connect(profile)

    def attached(self) -> Sequence[Attached]:
        """Every iPhone that usbmuxd has."""
        from melt.drivers.ios.pymd3.phone import list_phones

        return [Attached("iPhone", one.udid, "" if one.is_usb else "by Wi-Fi") for one in list_phones()]

    def checks(self) -> Sequence[Check]:
        """Whether usbmuxd is there, by which iPhones are reached."""
        try:
            count = len(self.attached())
        except DeviceError as e:
            return [Check("iPhones", "warning", e.message, f"{e.hint} Only iPhones need it.")]
        return [Check("iPhones", "ok", f"usbmuxd answers, {count} attached")]
