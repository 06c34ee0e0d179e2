"""What the library raises, as melt's errors: what is wrong with the phone, and what to do or to tap."""

import asyncio
import ssl

from pymobiledevice3 import exceptions as e
from pymobiledevice3.dtx.exceptions import DTXNsError
from pymobiledevice3.dtx.service import QueueShutDown
from pymobiledevice3.services.afc import AfcError

from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError, MeltError

BACK_HINT = "Look at the cable and at the phone; it is measured again where retries are left."
UNLOCK_HINT = "Unlock it and keep it unlocked: Settings > Display & Brightness > Auto-Lock > Never."
TRUST_HINT = "Unlock it, tap Trust in the dialog on it, enter its passcode, and run the command again."
DEVELOPER_HINT = (
    "On the iPhone: Settings > Privacy & Security > Developer Mode; it restarts. The entry appears once a computer has "
    "asked for it: pymobiledevice3 amfi reveal-developer-mode"
)
IMAGE_HINT = "Keep it unlocked and on the network, so that the image can be fetched and mounted: docs/ios.md."
BY_HAND_HINT = "Mount it by hand, then run the command again: pymobiledevice3 mounter auto-mount"
TUNNEL_HINT = (
    "Update it to iOS 17.4 or later. Below that only root may open a tunnel: sudo pymobiledevice3 remote start-tunnel; "
    "the RSD address that it tells belongs into the profile: address: host: and port:"
)
OPEN_HINT = (
    "Open it again: sudo pymobiledevice3 remote start-tunnel; the address that it tells is another each time, and "
    "belongs into the profile: address: host: and port:"
)
USBMUXD_HINT = (
    "Plug the iPhone in: Linux's usbmuxd (Debian: apt install usbmuxd) runs only while one is. One elsewhere: "
    "USBMUXD_SOCKET_ADDRESS=host:port."
)
CLEAN_HINT = "Free some there, or remove what melt put there: melt devices clean NAME"

_LOST = (
    e.ConnectionTerminatedError,
    e.MuxException,
    e.NoDeviceConnectedError,
    e.DeviceNotFoundError,
    e.InvalidConnectionError,
    e.ChannelClosedError,
    asyncio.IncompleteReadError,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
    QueueShutDown,
)
_LOCKED = (e.PasswordRequiredError, e.PasscodeRequiredError, e.MCProtectedError)
_UNPAIRED = (e.NotPairedError, e.PairingError, e.NotTrustedError, e.FatalPairingError)


def explain(error: Exception, name: str, doing: str, connected: bool = False) -> MeltError:
    """The library's error in words; melt's own as it is. Where a phone was connected, a usbmuxd that is gone went with
    it: Linux's ends with its last device."""
    if isinstance(error, MeltError):
        return error
    gone = connected and isinstance(error, e.ConnectionFailedToUsbmuxdError)
    cure = None if gone else _with_a_cure(error)
    if cure:
        return DeviceError(f"{name}: {cure[0]}", cure[1])
    if isinstance(error, _LOST):
        why = str(error) or type(error).__name__
        return ConnectionLostError(f"{name}: the iPhone is gone ({doing}: {why})", BACK_HINT)
    return DeviceError(f"{name}: {doing}: {error or type(error).__name__}")


def _with_a_cure(error: Exception) -> tuple[str, str] | None:
    match error:
        case e.ConnectionFailedToUsbmuxdError():
            return "usbmuxd does not answer, by which iPhones are reached", USBMUXD_HINT
        case e.PairingDialogResponsePendingError():
            return "the iPhone asks whether to trust this computer", TRUST_HINT
        case e.UserDeniedPairingError():
            return "somebody tapped Don't Trust on the iPhone", "Unplug it and plug it in again, then tap Trust."
        case e.DeveloperModeIsNotEnabledError():
            return "developer mode is off on the iPhone", DEVELOPER_HINT
        case e.AppNotInstalledError():
            return "melt's app is not on the iPhone", "docs/ios.md says how to build and install it."
        case e.InvalidServiceError():
            return "the iPhone's developer services are not there: its disk image is not mounted", IMAGE_HINT
        case e.AfcException() if error.status == AfcError.NO_SPACE_LEFT:
            return "the iPhone's disk is full", CLEAN_HINT
        case DTXNsError() if _says_locked(str(error)):
            return "the iPhone is locked, so it starts no app", UNLOCK_HINT
    if isinstance(error, _LOCKED) or "DeviceLocked" in str(error):
        return "the iPhone is locked", UNLOCK_HINT
    if isinstance(error, _UNPAIRED):
        return "the iPhone is not paired with this computer", TRUST_HINT
    return None


def _says_locked(text: str) -> bool:
    return "unlocked" in text or "Locked" in text
