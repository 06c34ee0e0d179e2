"""Device profiles: one YAML a device, shipped with melt or in the user's own folder (which wins)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from melt.errors import ProfileError
from melt.util.yaml import describe_problems, did_you_mean, load_yaml


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(_Frozen):
    """How to reach the device; which keys matter depends on the driver."""

    serial: str | None = None
    model: str | None = Field(
        default=None,
        description="The phone meant: Android's ro.product.model, as 'Pixel 8' or 'SM-S911*'; Apple's: 'iPhone16,1'.",
    )
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: str | None = None
    udid: str | None = None
    connector: Literal["auto", "server", "direct"] = Field(
        default="auto",
        description="Android: through the adb server, or directly; auto takes the server if there is one.",
    )


class Sensors(_Frozen):
    """What to record, and what cannot be discovered about the sensors."""

    period_ms: Annotated[int, Field(ge=10, le=60_000)] = 100
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

    start_below_c: Annotated[float, Field(ge=0, le=120)] | None = None
    zones: tuple[str, ...] = ()  # names to watch; empty: every processor zone


class DeviceProfile(_Frozen):
    """Everything about a device that cannot be discovered on it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    description: str = ""
    driver: str
    address: Address = Address()
    work_folder: str | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    sensors: Sensors = Sensors()
    conditions: dict[str, str] = {}
    thermal: ThermalBand = ThermalBand()
    facts: dict[str, str] = Field(default={}, description="Published facts, each with its source in `sources`.")
    sources: dict[str, str] = {}
    verified: Literal["hardware", "in a box", "no"] = "no"
    notes: tuple[str, ...] = ()
    path: Path | None = Field(default=None, exclude=True)

    @field_validator("verified", mode="before")
    @classmethod
    def _no_without_quotes(cls, value: object) -> object:
        return "no" if value is False else value  # YAML reads a bare no as false


def shipped_folder() -> Path:
    """Where the profiles are that come with melt: inside the wheel, or beside the package in a checkout."""
    inside = Path(__file__).parents[1] / "device_profiles"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "device_profiles"


def user_folder() -> Path:
    """The user's own profiles: ``MELT_PROFILES``, or the platform's configuration folder."""
    given = os.environ.get("MELT_PROFILES")
    return Path(given) if given else Path(platformdirs.user_config_dir("melt")) / "device_profiles"


def profile_paths() -> dict[str, Path]:
    """Every known profile by name, the user's winning over the shipped."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        if folder.is_dir():
            found |= {p.stem: p for p in sorted(folder.glob("*.yaml"))}
    return found


def load_profile(name: str) -> DeviceProfile:
    """One profile by name, or by the path of a YAML file.

    Raises:
        ProfileError: no such profile (the nearest name is suggested), or something in it is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read_profile(Path(name))
    known = profile_paths()
    if name not in known:
        raise ProfileError(
            f"unknown device {name!r}{did_you_mean(name, known)}",
            f"Known devices: {', '.join(known)}. A profile of your own goes into {user_folder()}.",
        )
    return read_profile(known[name])


def read_profile(path: Path) -> DeviceProfile:
    """A profile from its file; its ``name`` must be the file's.

    Raises:
        ProfileError: naming file, line and key of everything that is wrong.
    """
    data, lines = load_yaml(path, ProfileError)
    hint = "docs/devices.md lists what a profile holds."
    if "path" in data:
        raise ProfileError(f"{path}: unknown key 'path'", hint)
    try:
        profile = DeviceProfile(**data, path=path)
    except ValidationError as e:
        raise ProfileError(describe_problems(e, str(path), DeviceProfile, lines), hint) from e
    if profile.name != path.stem:
        line = lines.get(("name",), 1)
        raise ProfileError(f"{path}:{line}: name is {profile.name!r} but the file is {path.stem!r}", "Make them equal.")
    return profile


def json_schema() -> Mapping[str, Any]:
    """The profile's JSON schema, for editors; shipped as ``device_profiles/schema.json``."""
    schema = DeviceProfile.model_json_schema()
    schema["properties"].pop("path", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
