"""lockdownd: what the phone says of itself, pairing, sessions over TLS, and the way to every service."""

import os
import ssl
import uuid
from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

PORT = 62078
# What anybody may ask before a session.
_PUBLIC = (
    *("ActivationState", "BuildVersion", "CPUArchitecture", "DeviceClass", "DeviceName", "DevicePublicKey"),
    *("HardwareModel", "ProductName", "ProductType", "ProductVersion", "UniqueDeviceID", "WiFiAddress"),
)


class Lockdown:
    """One connection to port 62078, or one by way of a tunnel."""

    def __init__(self, phone: "IPhone", stream: Stream, trusted: bool = False) -> None:
        self._phone = phone
        self._stream = stream
        self._host_id: str | None = "" if trusted else None  # of the session; who comes by a tunnel needs none

    def serve(self) -> None:
        """Until the host hangs up."""
        while True:
            asked = self._stream.read_plist()
            name = str(asked.get("Request"))
            handler = getattr(self, f"_on_{name}", None)
            answer = handler(asked) if handler else {"Error": "UnknownRequest"}
            self._stream.write_plist({"Request": name, **answer})
            if name == "StartSession" and "SessionID" in answer:
                try:
                    self._stream.start_tls(self._phone.trust.context(str(self._host_id)))
                except (ssl.SSLError, OSError) as e:
                    raise EOFError from e
            if name == "StopSession" and "Error" not in answer:
                self._stream.stop_tls()

    def _on_QueryType(self, _asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the protocol's own words
        return {"Type": "com.apple.mobile.lockdown"}

    def _on_GetValue(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        domain, key = asked.get("Domain"), asked.get("Key")
        values = self._phone.values(domain)
        if self._host_id is None:
            values = {k: v for k, v in values.items() if k in _PUBLIC} if domain is None else {}
        found = values if key is None else values.get(key)
        named = {k: v for k, v in (("Domain", domain), ("Key", key)) if v is not None}
        if found is None:
            hidden = self._host_id is None and key in self._phone.values(domain)
            return {**named, "Error": "GetProhibited" if hidden else "MissingValue"}
        return {**named, "Value": found}

    def _on_SetValue(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self._host_id is None:
            return {"Error": "SetProhibited"}
        self._phone.set_value(asked.get("Domain"), str(asked.get("Key")), asked.get("Value"))
        return {"Key": asked.get("Key"), "Value": asked.get("Value")}

    def _on_Pair(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self._phone.locked:
            return {"Error": "PasswordProtected"}
        if self._phone.dialog == "pending":
            self._phone.dialogs_shown += 1
            return {"Error": "PairingDialogResponsePending"}
        if self._phone.dialog == "refused":
            return {"Error": "UserDeniedPairing"}
        try:
            self._phone.trust.trust(asked["PairRecord"])
        except (KeyError, TypeError):
            return {"Error": "InvalidPairRecord"}
        return {"EscrowBag": os.urandom(32)}

    def _on_ValidatePair(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        record = asked.get("PairRecord") or {}
        return {} if self._phone.trust.trusts(record.get("HostID", "")) else {"Error": "InvalidHostID"}

    def _on_Unpair(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._phone.trust.forget((asked.get("PairRecord") or {}).get("HostID", ""))
        return {}

    def _on_StartSession(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        host_id = str(asked.get("HostID"))
        if not self._phone.trust.trusts(host_id):
            return {"Error": "InvalidHostID"}
        if self._host_id is not None:
            return {"Error": "SessionActive"}
        self._host_id = host_id
        return {"SessionID": str(uuid.uuid4()).upper(), "EnableSessionSSL": True}

    def _on_StopSession(self, _asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self._host_id is None:
            return {"Error": "SessionInactive"}
        self._host_id = None
        return {}

    def _on_StartService(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        service = str(asked.get("Service"))
        if self._host_id is None:
            return {"Service": service, "Error": "SessionInactive"}
        tls = {"EnableServiceSSL": True} if self._phone.service_tls else {}
        error = self._phone.refusal(service)
        if error:
            return {"Service": service, "Error": error}
        return {"Service": service, "Port": self._phone.open_port(service, self._host_id), **tls}
