"""installation_proxy: which apps there are, and those that come as .ipa files by way of AFC."""

import plistlib
import posixpath
import zipfile
from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.app import App
from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

_STEPS = (("CreatingStagingDirectory", 5), ("ExtractingPackage", 15), ("VerifyingApplication", 40), ("Installing", 60))
_MAX_PLIST_BYTES = 2**20


def serve_installation_proxy(phone: "IPhone", stream: Stream) -> None:
    """Commands until the host hangs up."""
    while True:
        asked = stream.read_plist()
        options = asked.get("ClientOptions") or {}
        match asked.get("Command"):
            case "Lookup":
                stream.write_plist({"LookupResult": _found(phone, options), "Status": "Complete"})
            case "Browse":
                _browse(phone, stream, options)
            case "Install" | "Upgrade":
                _install(phone, stream, str(asked.get("PackagePath")))
            case "Uninstall":
                phone.apps.remove(str(asked.get("ApplicationIdentifier")))
                stream.write_plist({"Status": "RemovingApplication", "PercentComplete": 50})
                stream.write_plist({"Status": "Complete"})
            case _:
                stream.write_plist({"Error": "UnknownCommand"})


def _found(phone: "IPhone", options: dict[str, Any]) -> dict[str, Any]:
    wanted, kind = options.get("BundleIDs"), options.get("ApplicationType", "Any")
    attributes = options.get("ReturnAttributes")
    found = {}
    for bundle_id, app in phone.apps.by_id.items():
        if (wanted is None or bundle_id in wanted) and kind in ("Any", "User"):
            described = phone.apps.described(app)
            found[bundle_id] = {k: v for k, v in described.items() if not attributes or k in attributes}
    return found


def _browse(phone: "IPhone", stream: Stream, options: dict[str, Any]) -> None:
    apps = list(_found(phone, options).values())
    counts = {"CurrentIndex": 0, "CurrentAmount": len(apps), "Total": len(apps)}
    stream.write_plist({"Status": "BrowsingApplications", "CurrentList": apps, **counts})
    stream.write_plist({"Status": "Complete"})


def _install(phone: "IPhone", stream: Stream, package: str) -> None:
    path = phone.media / posixpath.normpath("/" + package).lstrip("/")
    try:
        info = _info_plist(path)
        app = App(info["CFBundleIdentifier"], info["CFBundleShortVersionString"], info=info)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, plistlib.InvalidFileException) as e:
        return stream.write_plist({"Error": "PackageInspectionFailed", "ErrorDescription": str(e)})
    for status, percent in _STEPS:
        stream.write_plist({"Status": status, "PercentComplete": percent})
    phone.apps.add(app)
    return stream.write_plist({"Status": "Complete"})


def _info_plist(path: Any) -> dict[str, Any]:
    with zipfile.ZipFile(path) as package:
        names = [n for n in package.namelist() if n.startswith("Payload/") and n.count("/") == 2]
        name = next((n for n in names if n.endswith(".app/Info.plist")), None)
        if name is None or package.getinfo(name).file_size > _MAX_PLIST_BYTES:
            raise ValueError("no Payload/*.app/Info.plist in the package")
        info = plistlib.loads(package.read(name))
    if not isinstance(info, dict):
        raise ValueError("its Info.plist is no dictionary")
    return info
