"""house_arrest: an app's container by AFC, on the connection that asked for it."""

from typing import TYPE_CHECKING

from tests.doubles.iphone.afc import Afc
from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

_SHOWN = {"VendContainer": "", "VendDocuments": "Documents"}


def serve_house_arrest(phone: "IPhone", stream: Stream) -> None:
    """One request, and the container from then on."""
    asked = stream.read_plist()
    app = phone.apps.by_id.get(str(asked.get("Identifier")))
    shown = _SHOWN.get(str(asked.get("Command")))
    if app is None:
        return stream.write_plist({"Error": "ApplicationLookupFailed"})
    if shown is None:
        return stream.write_plist({"Error": "UnknownCommand"})
    if not app.development and not shown:
        return stream.write_plist({"Error": "InstallationLookupFailed"})
    stream.write_plist({"Status": "Complete"})
    return Afc(stream, phone.apps.container(app), phone.disk, shown, phone.on_haste).serve()
