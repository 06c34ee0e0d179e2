"""Does what the phone is asked to through its stub tools, which can only write it down: Wi-Fi off and on, a reboot."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

# A phone loses Wi-Fi so long after it was told to; a command line that takes it back at once keeps the link.
WIFI_OFF_S = 0.4


class Attendant:
    """Looks after ``/mnt/box/state``.

    Args:
        state: that folder.
        set_link: brings the network link ``up`` or ``down``.
        reboot: reboots the phone, and takes its time.

    Attributes:
        wifi: whether it is on.
    """

    def __init__(self, state: Path, set_link: Callable[[str], None], reboot: Callable[[], None]) -> None:
        self._state, self._set_link, self._reboot = state, set_link, reboot
        self._off_since: float | None = None
        self._rebooting: threading.Thread | None = None
        self.wifi = True

    def look(self) -> None:
        if (self._state / "reboot").exists():
            (self._state / "reboot").unlink()
            self._rebooting = threading.Thread(target=self._reboot, daemon=True)
            self._rebooting.start()
        try:
            wanted = (self._state / "wifi").read_text(encoding="utf-8").strip()
        except OSError:  # nobody has set it, or it is being replaced
            return
        if wanted == "on":
            self._off_since = None
            if not self.wifi:
                self.wifi = True
                self._set_link("up")
        elif wanted == "off":
            self._off_since = self._off_since or time.monotonic()
            if self.wifi and time.monotonic() - self._off_since >= WIFI_OFF_S:
                self.wifi = False
                self._set_link("down")

    def wait(self) -> None:
        """Until no reboot is under way."""
        if self._rebooting:
            self._rebooting.join()
