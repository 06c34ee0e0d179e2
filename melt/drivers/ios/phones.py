"""Which iPhone is meant."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from melt.drivers.ios.address import IosAddress
from melt.drivers.ios.pymd3.errors import BACK_HINT
from melt.drivers.ios.pymd3.phone import Listed, Phone, list_phones
from melt.drivers.ios.pymd3.tunnel import OpenTunnel
from melt.drivers.remote.base import ConnectionLostError
from melt.errors import DeviceError
from melt.spec.profile import DeviceProfile
from melt.util.files import cache_folder

_PLUG_IN = "Plug it in and unlock it; `melt devices` lists those that are there. Its udid belongs into the profile."
_BOTH_OR_NONE = "Both are of a tunnel that root has opened, as below iOS 17.4; leave them out elsewhere: docs/ios.md."


def open_phone(profile: DeviceProfile, udid: str | None = None) -> Phone:
    """The iPhone of a profile, or the very one that was there before, paired.

    Raises:
        DeviceError: it is not there, several could be meant, or it cannot be used; says what to do.
    """
    address = IosAddress.of(profile)
    meant = choose(list_phones(profile.name), udid or address.udid, profile.name)
    tunnel = _tunnel(profile.name, address, meant)
    phone = Phone(meant, profile.name, cache_folder() / "ios" / "pair-records", tunnel)
    wanted, model = address.model, str(phone.values().get("ProductType", "of no known model"))
    if wanted is not None and not fnmatchcase(model, wanted):
        phone.close()
        raise DeviceError(f"{profile.name}: the iPhone that is attached is {model}, and not {wanted}", _PLUG_IN)
    return phone


def _tunnel(name: str, address: IosAddress, udid: str) -> OpenTunnel | None:
    host, port = address.host, address.port
    if bool(host) != bool(port):
        raise DeviceError(f"{name}: a tunnel's address is both host and port, and the profile has one", _BOTH_OR_NONE)
    return OpenTunnel(host, port, udid) if host and port else None


def choose(devices: Sequence[Listed], udid: str | None, name: str) -> str:
    """The udid that is meant, of those that are attached.

    Raises:
        ConnectionLostError: the one that the profile names is not there.
        DeviceError: none is there, or several are and the profile names none.
    """
    known = {_plain(d.udid): d.udid for d in devices}
    if udid is not None:
        if _plain(udid) not in known:
            attached = f" Others are: {', '.join(known.values())}." if known else ""
            raise ConnectionLostError(f"{name}: no iPhone {udid} is attached", BACK_HINT + attached)
        return known[_plain(udid)]
    if not known:
        raise DeviceError(f"{name}: no iPhone is attached", _PLUG_IN)
    if len(known) > 1:
        listed = ", ".join(known.values())
        raise DeviceError(f"{name}: several iPhones are attached: {listed}", "Name one in the profile: address: udid:")
    return next(iter(known.values()))


def _plain(udid: str) -> str:
    return udid.replace("-", "").lower()
