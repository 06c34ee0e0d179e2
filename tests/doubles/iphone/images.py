"""The image mounter: the developer disk image, which brings the services that start and watch programs."""

import os
from typing import TYPE_CHECKING, Any

from tests.doubles.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.doubles.iphone.phone import IPhone

DEVELOPER_SERVICES = ("com.apple.instruments.remoteserver.DVTSecureSocketProxy",)  # by lockdownd; from 17 on by RSD
_PLACES = {"Developer": "/Developer", "Personalized": "/System/Developer"}
_MAX_IMAGE_BYTES = 2**28
_OFF = "Developer mode is not enabled on this device"


class Images:
    """What is mounted, by its type; the signature beside it. An image's content is not looked at."""

    def __init__(self, phone: "IPhone") -> None:
        self._phone = phone
        self.mounted: dict[str, bytes] = {phone.model.image_type: b"signature"}
        self.manifests: dict[bytes, bytes] = {}  # by an image's digest: Apple's word that this phone may have it
        self.trust_cache = b""  # of what was mounted last
        self._received: dict[bytes, int] = {}

    def serve(self, stream: Stream) -> None:
        """Commands until the host hangs up."""
        while True:
            asked = stream.read_plist()
            match asked.get("Command"):
                case "LookupImage":
                    stream.write_plist(self._lookup(str(asked.get("ImageType"))))
                case "CopyDevices":
                    stream.write_plist({"EntryList": [self._entry(t) for t in self.mounted], "Status": "Complete"})
                case "ReceiveBytes":
                    self._receive(stream, asked)
                case "MountImage":
                    stream.write_plist(self._mount(asked))
                case "UnmountImage":
                    names = [t for t in self.mounted if _PLACES[t] == asked.get("MountPath")]
                    known = names and self.mounted.pop(names[0])
                    error = {"Error": "UnknownCommand", "DetailedError": "There is no matching entry"}
                    stream.write_plist({"Status": "Complete"} if known else error)
                case "QueryPersonalizationManifest" if self._phone.model.has_rsd:
                    known_manifest = self.manifests.get(bytes(asked.get("ImageSignature", b"")))
                    if known_manifest is None:  # and no more is heard on this connection
                        return stream.write_plist({"Error": "InternalError", "DetailedError": "no manifest"})
                    stream.write_plist({"Status": "Complete", "ImageSignature": known_manifest})
                case "QueryPersonalizationIdentifiers" if self._phone.model.has_rsd:
                    model = self._phone.model
                    identifiers = {"BoardId": model.board_id, "ChipID": model.chip_id, "SecurityDomain": 1}
                    stream.write_plist({"Status": "Complete", "PersonalizationIdentifiers": identifiers})
                case "QueryNonce" if self._phone.model.has_rsd:
                    stream.write_plist({"Status": "Complete", "PersonalizationNonce": os.urandom(32)})
                case "QueryDeveloperModeStatus":
                    stream.write_plist({"DeveloperModeStatus": self._phone.developer_mode})
                case "Hangup":
                    return stream.write_plist({"Goodbye": True})
                case _:
                    stream.write_plist({"Error": "UnknownCommand"})

    def _lookup(self, image_type: str) -> dict[str, Any]:
        signature = self.mounted.get(image_type)
        return {"Status": "Complete", "ImageSignature": [] if signature is None else [signature]}

    def _entry(self, image_type: str) -> dict[str, Any]:
        signature = self.mounted[image_type]
        where = {"MountPath": _PLACES[image_type], "IsMounted": True}
        return {"DiskImageType": image_type, "ImageSignature": signature, **where}

    def _receive(self, stream: Stream, asked: dict[str, Any]) -> None:
        size = int(asked.get("ImageSize", 0))
        if not 0 < size <= _MAX_IMAGE_BYTES:
            return stream.write_plist({"Error": "InvalidArgument"})
        stream.write_plist({"Status": "ReceiveBytesAck"})
        stream.read(size)
        self._received[bytes(asked.get("ImageSignature", b""))] = size
        return stream.write_plist({"Status": "Complete"})

    def _mount(self, asked: dict[str, Any]) -> dict[str, Any]:
        signature = bytes(asked.get("ImageSignature", b""))
        if not self._phone.developer_mode:
            return {"Error": "InternalError", "DetailedError": _OFF}
        if self._phone.locked:
            return {"Error": "DeviceLocked"}
        if signature not in self._received:
            return {"Error": "ImageMountFailed", "DetailedError": "no such image was received"}
        if asked.get("ImageType") != self._phone.model.image_type:
            return {"Error": "ImageMountFailed", "DetailedError": "not an image of this iOS"}
        if asked.get("ImageType") in self.mounted:
            return {"Error": "ImageMountFailed", "DetailedError": "The image is already mounted"}
        self.mounted[str(asked.get("ImageType"))] = signature
        self.trust_cache = bytes(asked.get("ImageTrustCache", b""))
        return {"Status": "Complete"}
