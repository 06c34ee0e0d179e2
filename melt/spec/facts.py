"""What a device says of itself, and its clock beside the host's."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Those of the facts below that a condition may move: of these the passport tells what held.
MOVED_BY_CONDITIONS = ("governor", "clocks", "power_mode")
# What no condition is named after, but moves with one, or by a person's hand: of these too what held.
STATE = (
    *MOVED_BY_CONDITIONS,
    *("clock_cap", "turbo", "energy_preference", "platform_profile", "supply", "battery_saver"),
)
MAX_FACT_CHARS, MAX_EXTRA_CHARS = 200, 4000


def _line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")[:MAX_FACT_CHARS]


class DeviceFacts(BaseModel):
    """What a device says of itself; what could not be found out is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platform: str  # linux, android, ios
    machine: str  # x86_64, aarch64
    is_host: bool = False  # this very machine: what is installed or compiled here runs there
    soc: str | None = None
    product: str | None = None
    os_build: str | None = None
    kernel: str | None = None
    cpu_features: tuple[str, ...] = ()
    logical_cores: int | None = None
    physical_cores: int | None = None
    clusters: tuple[tuple[int, ...], ...] = ()  # processors of one top clock that are on, slowest first
    online_cpus: tuple[int, ...] = ()  # the numbers of all that are on
    ram_bytes: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None
    governor: str | None = None
    clocks: str | None = None  # "locked" at one frequency each, "free", or what of them is locked
    clock_cap: str | None = None  # the highest clocks allowed, where locked the one there is: "1.80, 2.40 GHz"
    turbo: str | None = None  # "on" or "off"
    energy_preference: str | None = None  # the processor's, between performance and power
    platform_profile: str | None = None  # the firmware's, as "balanced"
    supply: str | None = None  # of what has a battery: "mains" or "battery"
    battery_saver: str | None = None  # Android's: "on" or "off"
    power_mode: str | None = None
    power_modes: tuple[str, ...] = ()  # those that it has
    mode_cpus: dict[str, tuple[int, ...]] = {}  # of a mode that turns processors off or on, those that are on in it
    battery_capacity_j: float | None = None
    battery_health: str | None = None
    virtual_machine: str | None = None
    serial_hash: str | None = None  # never the serial itself; as results keep it, see drivers/identity.py
    identity: str | None = Field(default=None, exclude=True)  # by which this machine alone knows the device
    python: str | None = None  # the interpreter that the Python runner is started with
    installed_runner: str | None = None  # a runner of melt's that is on the device already: what starts it
    installed_runner_version: str | None = None
    engines: dict[str, str] = {}  # engine name -> version, where the runner found it
    extra: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, data: Any) -> Any:
        """A device is not believed to tell more of itself than a line each: what its files hold is not known."""
        if not isinstance(data, dict):
            return data
        extra = data.get("extra")
        lists = {"extra": {k: str(v)[:MAX_EXTRA_CHARS] for k, v in extra.items()}} if isinstance(extra, dict) else {}
        return {k: _line(v) if isinstance(v, str) else v for k, v in data.items()} | lists

    def passport(self) -> dict[str, str]:
        """What must be the same for two runs to be compared; keys in a fixed order, unknown left out."""
        keys = (
            "platform",
            "machine",
            "soc",
            "product",
            "os_build",
            "kernel",
            "logical_cores",
            "ram_bytes",
            *STATE,
            "battery_health",
            "virtual_machine",
            "serial_hash",
            "installed_runner_version",
        )
        return {k: str(getattr(self, k)) for k in keys if getattr(self, k) is not None}


@dataclass(frozen=True)
class ClockReading:
    """The device's clock beside the host's, with the bound of the error."""

    name: str
    device_ns: int
    host_realtime_ns: int
    bound_ns: int
