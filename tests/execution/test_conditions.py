"""What a device is set to for a cell, and what the cell is then measured under."""

import pytest

from melt.backends.cores import oversubscribed
from melt.backends.job import job_for
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


SIX = DeviceFacts(
    platform="linux",
    machine="aarch64",
    power_modes=("2CORE", "6CORE", "MAXN"),
    power_mode="2CORE",
    mode_cpus={"2CORE": (0, 1), "4CORE": (0, 1, 2, 3), "6CORE": (0, 1, 2, 3, 4, 5)},
    online_cpus=(0, 1),
    logical_cores=2,
    physical_cores=2,
    clusters=((0, 1),),
)


@pytest.mark.parametrize(
    ("mode", "cores", "on", "clusters"),
    [
        ("6CORE", 6, (0, 1, 2, 3, 4, 5), ()),  # what the others' top clock is nobody knows before
        ("2CORE", 2, (0, 1), ((0, 1),)),
        ("MAXN", 2, (0, 1), ((0, 1),)),  # its configuration does not say
    ],
)
def test_threads_are_those_of_the_power_mode_that_the_cell_asks_for(
    mode: str, cores: int, on: tuple[int, ...], clusters: tuple[tuple[int, ...], ...]
) -> None:
    cell = CELL.model_copy(update={"power_mode": mode})
    under = facts_as_asked(cell, PROFILE, SIX)
    assert (under.logical_cores, under.online_cpus, under.clusters) == (cores, on, clusters)
    assert job_for(cell, under, "a-job", "llama.cpp").threads == cores
    assert oversubscribed(cell.model_copy(update={"threads": 3}), under) == (
        "" if cores > 2 else "3 threads on 2 processors"
    )


def test_of_a_mode_with_fewer_processors_those_of_a_cluster_that_are_left() -> None:
    whole = SIX.model_copy(
        update={"power_mode": "6CORE", "online_cpus": (0, 1, 2, 3, 4, 5), "clusters": ((0, 1, 2), (3, 4, 5))}
    )
    under = facts_as_asked(CELL.model_copy(update={"power_mode": "4CORE"}), PROFILE, whole)
    assert under.clusters == ((0, 1, 2), (3,))
