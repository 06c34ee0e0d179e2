"""What a device is set to for a cell, and what the cell is then measured under."""

import pytest

from melt.errors import PlanError
from melt.execution.conditions import check_conditions, conditions_of, facts_as_asked, moved, not_held
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile

CELL = Cell(device="orin", model="m", power_mode="15W")
PROFILE = DeviceProfile(
    name="orin",
    driver="ssh",
    conditions={"power_mode": "MAXN", "clocks": "locked", "fan": "on"},
)
FACTS = DeviceFacts(platform="linux", machine="aarch64", power_modes=("15W", "MAXN"), power_mode="7W", clocks="free")


def test_a_cell_s_own_conditions_go_before_its_profile_s() -> None:
    assert conditions_of(CELL, PROFILE) == {"power_mode": "15W", "clocks": "locked", "fan": "on"}
    asked = facts_as_asked(CELL, PROFILE, FACTS)
    assert (asked.power_mode, asked.clocks) == ("15W", "locked")
    assert conditions_of(CELL.model_copy(update={"power_mode": None}), PROFILE)["power_mode"] == "MAXN"


def test_what_a_device_does_not_have_is_refused_with_what_it_has() -> None:
    check_conditions(CELL, FACTS)
    with pytest.raises(PlanError, match="orin: has no power mode '99W'") as caught:
        check_conditions(CELL.model_copy(update={"power_mode": "99W"}), FACTS)
    assert caught.value.hint == "It has 15W, MAXN."


def test_what_does_not_hold_is_named() -> None:
    assert not_held(CELL, FACTS) == "power mode 15W: the device is in 7W"
    assert not_held(CELL, FACTS.model_copy(update={"power_mode": "15W"})) == ""
    assert moved(FACTS, {"clocks": "locked", "power_mode": "7W"}) == {"clocks": "clocks was free and is locked"}
