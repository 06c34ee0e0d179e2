"""A device is known by a word that results may keep."""

import shutil
from pathlib import Path

import pytest

import melt
from melt.drivers import connect
from melt.drivers.identity import told
from melt.errors import DeviceError
from melt.execution.plan import run
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.store.manifest import MANIFEST
from tests.support.plans import a_plan

PROFILE = DeviceProfile(name="board", driver="ssh")
FACTS = DeviceFacts(platform="linux", machine="aarch64", serial_hash="0123456789abcdef")


def test_one_user_has_one_word_for_a_device_and_another_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = told(PROFILE, FACTS)
    assert mine.identity == FACTS.serial_hash
    assert mine.serial_hash not in (None, FACTS.serial_hash)
    assert told(PROFILE, FACTS).serial_hash == mine.serial_hash
    assert "identity" not in mine.model_dump()
    assert (tmp_path / "data" / "salt").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("MELT_DATA", str(tmp_path / "others"))
    assert told(PROFILE, FACTS).serial_hash != mine.serial_hash


def test_whoever_only_looks_makes_no_salt(tmp_path: Path) -> None:
    assert told(PROFILE, FACTS, looking=True).serial_hash == FACTS.serial_hash
    assert not (tmp_path / "data").exists()


def test_a_name_for_every_host_needs_no_salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = PROFILE.model_copy(update={"known_as": "rack 3, left"})
    here = told(named, FACTS).serial_hash
    monkeypatch.setenv("MELT_DATA", str(tmp_path / "others"))
    assert told(named, FACTS).serial_hash == here
    assert told(named.model_copy(update={"known_as": "rack 3, right"}), FACTS).serial_hash != here


def test_a_data_folder_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MELT_DATA", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="file/salt: cannot be"):
        told(PROFILE, FACTS)


def test_results_from_before_there_was_a_salt_go_on_under_their_hash(tiny_model: Path, tmp_path: Path) -> None:
    driver = connect(melt.load_profile("local"))
    identity = driver.facts().serial_hash
    driver.close()
    assert identity, "this machine has no serial"
    plan = a_plan("local", tiny_model, sessions=2)
    [first, second] = run(plan, tmp_path / "r").made
    salted = first.manifest.device.serial_hash
    assert salted not in (None, identity)
    shutil.rmtree(second.folder)
    old = (first.folder / MANIFEST).read_text().replace(str(salted), identity)
    (first.folder / MANIFEST).write_text(old)
    again = run(plan, tmp_path / "r")
    assert (len(again.made), again.already_there) == (1, 1)
    assert (first.folder / MANIFEST).read_text() == old
    [cell] = melt.load(tmp_path / "r").cells.to_dict("records")
    assert cell["n_sessions"] == 2
    assert [f.name for f in (tmp_path / "data").iterdir()] == ["salt"]
