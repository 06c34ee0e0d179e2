"""What a device profile holds: everything about a device that cannot be found out on it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sensors(_Frozen):
    """What to record, and what cannot be discovered about the sensors."""

    period_ms: Annotated[int, Field(ge=10, le=60_000, strict=True)] = 100
    root: str = Field(
        default="",
        description="Folder in which this device's /sys and /proc are found, for a container whose host's "
        "trees are mounted elsewhere.",
    )
    disable: tuple[str, ...] = ()
    battery_current_unit: Literal["auto", "uA", "mA"] = Field(
        default="auto",
        description="Android: the unit of the gauge's current_now, where it cannot be told from it.",
    )
    total: tuple[str, ...] = Field(
        default=(), description="Names of the power or energy sources that make the device's total."
    )


class ThermalBand(_Frozen):
    """A session starts only below this temperature of the hottest zone, after waiting if need be."""

    start_below_c: Annotated[float, Field(ge=0, le=120, strict=True)] | None = None
    zones: tuple[str, ...] = ()  # names to watch; empty: every processor zone


class Limits(_Frozen):
    """Where a run stops itself, for the device's sake and its owner's; null: nowhere."""

    battery_c: Annotated[float, Field(ge=0, le=120, strict=True)] | None = Field(
        default=45.0, description="The battery's temperature; above, it ages quickly."
    )
    battery_percent: Annotated[float, Field(ge=0, le=100, strict=True)] | None = Field(
        default=15.0, description="What is left in the battery, while nothing charges it."
    )
    severe_s: Annotated[float, Field(ge=0, le=86_400, strict=True)] | None = Field(
        default=60.0, description="Android: seconds of thermal status severe (3) or worse."
    )


class DeviceProfile(_Frozen):
    """Everything about a device that cannot be discovered on it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    description: str = ""
    driver: str
    address: dict[str, Any] = Field(default={}, description="How to reach the device, by the keys of its driver.")
    known_as: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="What this one device is in results, whichever computer measures it; without it, each "
        "computer's results are of a device of its own.",
    )
    work_folder: str | None = None
    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | None = None
    sensors: Sensors = Sensors()
    conditions: dict[str, str] = {}
    thermal: ThermalBand = ThermalBand()
    limits: Limits = Limits()
    facts: dict[str, str] = Field(default={}, description="Published facts, each with its source in `sources`.")
    sources: dict[str, str] = {}
    verified: Literal["hardware", "in a box", "no"] = "no"
    notes: tuple[str, ...] = ()
    path: Path | None = Field(default=None, exclude=True)

    @field_validator("work_folder")
    @classmethod
    def _of_nobody_else(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("~") and value.split("/")[0] != "~":
            raise ValueError("the home of another user is not looked up; write the whole path")
        return value

    @field_validator("verified", mode="before")
    @classmethod
    def _no_without_quotes(cls, value: object) -> object:
        return "no" if value is False else value  # YAML reads a bare no as false
