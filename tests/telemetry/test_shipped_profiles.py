"""The device profiles that come with melt."""

import json
from pathlib import Path

import pytest

from melt.spec.profile import json_schema, read_profile, shipped_folder

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
    assert shipped == json_schema(), "regenerate device_profiles/schema.json from melt.spec.profile.json_schema()"
