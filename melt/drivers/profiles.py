"""Device profiles as files: one YAML a device, shipped with melt or in the user's own folder, which wins."""

import os
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError

from melt.drivers import check_address, driver_names, load_driver
from melt.drivers.plugin import Address, AnyAddress
from melt.errors import DeviceError, ProfileError
from melt.spec.profile import DeviceProfile
from melt.util.yaml import describe_problems, did_you_mean, load_yaml


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
    paths: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        if folder.is_dir():
            paths |= {p.stem: p for p in sorted(folder.glob("*.yaml"))}
    return paths


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
    try:
        _check_address(profile)
    except ValidationError as e:
        model = address_model(profile.driver)
        raise ProfileError(describe_problems(e, str(path), model, lines, at=("address",)), hint) from e
    if profile.name != path.stem:
        line = lines.get(("name",), 1)
        raise ProfileError(f"{path}:{line}: name is {profile.name!r} but the file is {path.stem!r}", "Make them equal.")
    return profile


def _check_address(profile: DeviceProfile) -> None:
    """As its driver does, where that is installed here: nobody can tell otherwise."""
    if profile.driver in driver_names():
        check_address(profile, f"{profile.name}: ")


def address_model(driver: str) -> type[Address]:
    """The keys that a driver understands; any where it is not installed here, as nobody can tell then."""
    try:
        return load_driver(driver).Address
    except DeviceError:
        return AnyAddress


def json_schema() -> dict[str, Any]:
    """The profile's JSON schema, for editors, with the address of each installed driver.

    That of melt's own drivers is shipped as ``device_profiles/schema.json``.
    """
    schema = DeviceProfile.model_json_schema()
    schema["properties"].pop("path", None)
    schema["allOf"] = []
    for driver in driver_names():
        address = address_model(driver).model_json_schema()
        schema["$defs"] |= address.pop("$defs", {}) | {address["title"]: address}
        schema["allOf"].append(
            {
                "if": {"properties": {"driver": {"const": driver}}, "required": ["driver"]},
                "then": {"properties": {"address": {"$ref": f"#/$defs/{address['title']}"}}},
            }
        )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
