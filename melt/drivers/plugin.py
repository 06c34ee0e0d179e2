"""What a driver registers as its entry point in ``melt.drivers``: how its devices are named, seen, checked and reached.

Importing a plug-in must be quick and need no package beyond melt's own: profiles are checked by every driver's address
keys, whether or not its devices can be reached from here. What is heavy is imported by ``connect`` and its like.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from melt.drivers.base import Driver
from melt.errors import DeviceError, ProfileError
from melt.spec.check import Check
from melt.spec.profile import DeviceProfile
from melt.util.yaml import describe_problems

Agree = Callable[[str], None]  # shows a line to the person, and raises where they do not agree


class Address(BaseModel):
    """The keys that a driver understands in a profile's ``address``; this one has none. All must have a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, profile: DeviceProfile) -> Self:
        """A profile's address, typed.

        Raises:
            ProfileError: it has a key that this driver does not know, or a wrong value.
        """
        try:
            return cls(**profile.address)
        except ValidationError as e:
            where = str(profile.path or profile.name)
            raise ProfileError(describe_problems(e, where, cls, at=("address",))) from e


@dataclass(frozen=True)
class Attached:
    """A device that is there now, whether a profile names it or not."""

    kind: str  # for people: "Android phone"
    id: str  # by which a profile's address names it
    details: str = ""  # its model, or how it is attached
    problem: str = ""  # why it cannot be used


class AnyAddress(Address):
    """Whatever stands there, unchecked."""

    model_config = ConfigDict(extra="allow")


class DriverPlugin(ABC):
    """One way to reach devices. Only ``connect`` must be written."""

    Address: ClassVar[type[Address]] = Address
    is_host: ClassVar[bool] = False  # its device is the machine that melt itself runs on
    install: ClassVar[str] = ""  # how to get the packages that it needs, where they are optional

    @abstractmethod
    def connect(self, profile: DeviceProfile) -> Driver:
        """Opens the device of a profile.

        Raises:
            DeviceError: it is not there, or cannot be used; says what to do.
        """

    def attached(self) -> Sequence[Attached]:
        """The devices that can be seen from here without knowing of them, for ``melt devices``.

        Raises:
            DeviceError: it cannot be told.
        """
        return ()

    def checks(self) -> Sequence[Check]:
        """What this host needs for such devices, for ``melt doctor``."""
        return ()

    def enrol(self, profile: DeviceProfile, agree: Agree) -> str:
        """Has a person agree to the keys by which a device, and what lies on the way to it, prove who they are.

        Returns:
            Where the new ones are kept, for people; empty where all were known already.

        Raises:
            DeviceError: such devices have no keys, or they cannot be had.
        """
        raise DeviceError(
            f"{profile.name}: devices with driver: {profile.driver} have no keys to enrol",
            "They are used as they are: melt doctor --device NAME",
        )


class ConnectOnly(DriverPlugin):
    """An entry point that is a plain function ``connect(profile)``: nothing is known beyond that."""

    Address = AnyAddress

    def __init__(self, connect: Callable[[DeviceProfile], Driver]) -> None:
        self._connect = connect

    def connect(self, profile: DeviceProfile) -> Driver:
        """By the function."""
        return self._connect(profile)
