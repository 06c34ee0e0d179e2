"""The device profiles that come with melt."""

import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from melt.drivers import connect, load_driver
from melt.drivers.profiles import json_schema, read_profile, shipped_folder
from melt.errors import DeviceError, ProfileError
from melt.spec.profile import DeviceProfile

PROFILES = sorted(shipped_folder().glob("*.yaml"))
NAMES = {"local", "pixel8", "galaxy-s23", "iphone", "iphone15-pro", "jetson-orin-nano", "jetson-agx-orin"}


def test_all_are_there() -> None:
    assert {p.stem for p in PROFILES} >= NAMES


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_profile_is_valid_and_honest(path: Path) -> None:
    profile = read_profile(path)
    assert path.read_text(encoding="utf-8").splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    assert set(profile.sources) == set(profile.facts)
    if profile.verified == "no":
        assert any("seen on hardware" in note for note in profile.notes)


def test_schema_is_the_one_of_the_code() -> None:
    shipped = json.loads((shipped_folder() / "schema.json").read_text(encoding="utf-8"))
    assert shipped == json_schema(), "regenerate device_profiles/schema.json from melt.drivers.profiles.json_schema()"


@pytest.mark.parametrize(
    ("driver", "address", "said"),
    [
        ("adb", "serail: x", ":5: unknown key 'address.serail' (did you mean 'serial'?)"),
        ("adb", "user: me", ":5: unknown key 'address.user'"),
        ("ssh", "port: 70000", ":5: address.port: Input should be less than or equal to 65535 (got 70000)"),
        ("ssh", "serial: x", ":5: unknown key 'address.serial' (did you mean 'user'?)"),
        ("ios", "uuid: x", ":5: unknown key 'address.uuid' (did you mean 'udid'?)"),
        ("local", "host: x", ":5: unknown key 'address.host'"),
    ],
)
def test_an_address_is_checked_by_its_driver_and_the_line_is_named(
    driver: str, address: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ndriver: {driver}\naddress:\n  # how to reach it\n  {address}\n")
    with pytest.raises(ProfileError) as e:
        read_profile(path)
    assert e.value.message.startswith(f"{path}{said}")


def test_an_address_that_is_made_in_a_program_is_checked_before_the_device_is_touched() -> None:
    with pytest.raises(ProfileError, match=r"board: unknown key 'address.hosst' \(did you mean 'host'\?\)"):
        connect(DeviceProfile(name="board", driver="ssh", address={"hosst": "nano"}))


def test_a_profile_of_a_driver_that_is_not_here_can_be_read_and_not_connected_to(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ndriver: shh\naddress: {host: x}\n")
    profile = read_profile(tmp_path / "mine.yaml")
    with pytest.raises(DeviceError, match=r"mine: no driver 'shh' in this melt \(did you mean 'ssh'\?\)"):
        connect(profile)


def test_the_schema_lets_editors_complete_each_drivers_own_keys() -> None:
    schema = json_schema()
    keys = {
        one["if"]["properties"]["driver"]["const"]: set(
            schema["$defs"][one["then"]["properties"]["address"]["$ref"].rsplit("/", 1)[1]]["properties"]
        )
        for one in schema["allOf"]
    }
    assert keys["ssh"] == {"host", "user", "port"}
    assert keys["ios"] == {"udid", "model", "host", "port"}
    assert keys["local"] == set()


def test_the_page_on_devices_lists_the_address_keys_of_every_driver() -> None:
    page = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `address` |"))
    listed = {}
    for part in row.split("to find it; ")[1].split(";"):
        name, _, keys = part.partition(":")
        listed[name.strip()] = re.findall(r"`(\w+)`", keys)
    own = [e.name for e in entry_points(group="melt.drivers") if e.value.startswith("melt.drivers.")]
    assert listed == {name: list(load_driver(name).Address.model_fields) for name in sorted(own, key=[*listed].index)}
