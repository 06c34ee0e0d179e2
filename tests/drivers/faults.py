"""What may befall a device in a whole run, as one table; each driver says how it is done to its devices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Device(Protocol):
    """A device for whole runs that a test can hurt. Every call comes back at once."""

    profile: str  # the file of its profile
    what: str  # what melt's messages call it
    sends_samples: bool  # while they are taken; else they lie on the device until a run is over
    is_silent_when_cut: bool  # else its connections break
    patience: Mapping[str, float]  # melt's waits for an answer of it, by full name, as short as a test of silence needs

    def at_work(self) -> bool:
        """Whether a program of melt's runs there."""
        ...

    def kill_programs(self) -> None:
        """Those, as a device short of memory does."""
        ...

    def cut(self) -> None:
        """It goes out of reach, and everything on it goes on."""
        ...

    def mend(self) -> None:
        """It is in reach again."""
        ...

    def end_service(self) -> None:
        """What answers melt dies."""
        ...

    def start_service(self) -> None:
        """It answers again."""
        ...

    def switch_off(self) -> None:
        """Everything ends."""
        ...

    def switch_on(self) -> None:
        """It starts anew, with what is on its disk."""
        ...

    def freeze(self) -> None:
        """It hangs: connections are taken and nothing is answered."""
        ...

    def thaw(self) -> None:
        """It goes on."""
        ...

    def fill_disk(self) -> None:
        """Less is free than a model needs."""
        ...

    def free_disk(self) -> None:
        """There is room again."""
        ...


@dataclass(frozen=True)
class Fault:
    """What befalls a device, and what ends it."""

    begin: Callable[[Device], None]
    end: Callable[[Device], None] = lambda device: None


FAULTS = {
    "out of reach": Fault(lambda d: d.cut(), lambda d: d.mend()),
    "service dies": Fault(lambda d: d.end_service(), lambda d: d.start_service()),
    "restarts": Fault(lambda d: d.switch_off(), lambda d: d.switch_on()),
    "hangs": Fault(lambda d: d.freeze(), lambda d: d.thaw()),
    "programs die": Fault(lambda d: d.kill_programs()),
    "disk full": Fault(lambda d: d.fill_disk(), lambda d: d.free_disk()),
}
