"""diagnostics_relay: the battery's registry entry and a few words more."""

from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone


def serve_diagnostics(phone: "IPhone", stream: Stream) -> None:
    """Requests until the host says goodbye."""
    while True:
        asked = stream.read_plist()
        request = asked.get("Request")
        stream.write_plist(_answer(phone, str(request), asked))
        if request == "Goodbye":
            return


def _answer(phone: "IPhone", request: str, asked: dict[str, Any]) -> dict[str, Any]:
    match request:
        case "IORegistry":
            names = (asked.get("EntryClass"), asked.get("EntryName"))
            of_battery = any(n in ("IOPMPowerSource", "AppleSmartBattery") for n in names)
            found = phone.battery.power_source() if of_battery else None
            return {"Status": "Success", "Diagnostics": {"IORegistry": found} if found else {}}
        case "GasGauge" | "All":
            gauge = phone.battery.power_source()
            kept = {k: gauge[k] for k in ("CycleCount", "DesignCapacity", "FullyCharged")}
            return {"Status": "Success", "Diagnostics": {"GasGauge": kept}}
        case "MobileGestalt":
            keys = asked.get("MobileGestaltKeys") or []
            values = {k: v for k, v in phone.values(None).items() if k in keys}
            return {"Status": "Success", "Diagnostics": {"MobileGestalt": {"Status": "Success", **values}}}
        case "Goodbye" | "Restart" | "Shutdown" | "Sleep":
            if request == "Restart":
                phone.reboot()
            return {"Status": "Success"}
        case _:
            return {"Status": "UnknownRequest"}
