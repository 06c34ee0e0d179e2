"""The image mounter: the developer disk image, which brings the services that start and watch programs."""

from typing import TYPE_CHECKING, Any

from tests.peers.iphone.wire import Stream

if TYPE_CHECKING:
    from tests.peers.iphone.phone import IPhone

DEVELOPER_SERVICES = ("com.apple.instruments.remoteserver.DVTSecureSocketProxy",)
_MAX_IMAGE_BYTES = 2**28
_OFF = "Developer mode is not enabled on this device"


class Images:
    """What is mounted, by its type; the signature beside it. An image's content is not looked at."""

    def __init__(self, phone: "IPhone") -> None:
        self._phone = phone
        self.mounted: dict[str, bytes] = {"Developer": b"signature"}
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
                    known = asked.get("MountPath") == "/Developer" and self.mounted.pop("Developer", None)
                    error = {"Error": "UnknownCommand", "DetailedError": "There is no matching entry"}
                    stream.write_plist({"Status": "Complete"} if known else error)
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
        where = {"MountPath": "/Developer", "IsMounted": True}
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
        if asked.get("ImageType") in self.mounted:
            return {"Error": "ImageMountFailed", "DetailedError": "The image is already mounted"}
        self.mounted[str(asked.get("ImageType"))] = signature
        return {"Status": "Complete"}
