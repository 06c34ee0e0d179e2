"""Which processors a cell runs on, and which program a phone's GPU takes."""

import pytest

from melt.backends.cores import cpu_mask, oversubscribed
from melt.backends.llamacpp import LlamaCpp
from melt.errors import PlanError, RunnerError
from melt.spec.cell import Cell
from melt.spec.facts import DeviceFacts
from melt.spec.plan import Plan
from melt.telemetry.linux_facts import facts
from melt.telemetry.source import Inventory, InventoryEntry
from melt.toolchain.targets import phone_gpu_target

PIXEL = DeviceFacts(platform="android", machine="aarch64", logical_cores=9, clusters=((0, 1, 2, 3), (4, 5, 6, 7), (8,)))
ADRENO = {"accelerator_libraries": "/vendor/lib64/libOpenCL.so /vendor/lib64/hw/vulkan.adreno.so"}


@pytest.mark.parametrize(
    ("cores", "mask"), [("all", None), ("little", 0xF), ("mid", 0xF0), ("big", 0x100), ("0x1f0", 0x1F0), ("0x001", 1)]
)
def test_a_cluster_is_its_processors(cores: str, mask: int | None) -> None:
    assert cpu_mask(cores, PIXEL) == mask


def test_two_clusters_have_no_middle_and_one_has_no_names() -> None:
    two = PIXEL.model_copy(update={"clusters": ((0, 1, 2, 3, 4, 5), (6, 7)), "logical_cores": 8})
    assert cpu_mask("big", two) == 0xC0
    with pytest.raises(RunnerError, match=r"cores mid: .*slowest first: 0,1,2,3,4,5; 6,7"):
        cpu_mask("mid", two)
    for clusters in ((), ((0, 1),)):
        with pytest.raises(RunnerError, match="no such cluster"):
            cpu_mask("big", PIXEL.model_copy(update={"clusters": clusters}))


def test_four_clusters_have_two_in_the_middle() -> None:
    four = PIXEL.model_copy(update={"clusters": ((0, 1), (5, 6), (2, 3, 4), (7,))})
    assert cpu_mask("mid", four) == 0b1111100


def test_a_mask_beyond_the_device_is_refused() -> None:
    with pytest.raises(RunnerError, match="processors 9 are not there or off; on are 0-8"):
        cpu_mask("0x200", PIXEL)


def test_the_processors_that_are_on_decide() -> None:
    """A board whose first four are off: they have no number in cpuinfo, and their cluster is none."""
    tree = {"/proc/cpuinfo": "".join(f"processor\t: {i}\n\n" for i in (4, 5, 6, 7))}
    for first, cpus, khz in ((0, "0 1 2 3", "1800000"), (4, "4 5 6 7", "2400000")):
        policy = f"/sys/devices/system/cpu/cpufreq/policy{first}"
        tree |= {f"{policy}/related_cpus": cpus, f"{policy}/cpuinfo_max_freq": khz}
    found = facts(Inventory(entries=tuple(InventoryEntry(path=p, text=t) for p, t in tree.items())))
    assert (found.logical_cores, found.clusters, found.online_cpus) == (4, ((4, 5, 6, 7),), (4, 5, 6, 7))
    assert cpu_mask("0xf0", found) == 0xF0
    for cores, told in (("0x0f", "processors 0-3 are not there or off; on are 4-7"), ("little", "no such cluster")):
        with pytest.raises(RunnerError, match=told):
            cpu_mask(cores, found)


@pytest.mark.parametrize(
    ("threads", "cores", "told"),
    [
        (None, "all", ""),
        (9, "all", ""),
        (10, "all", "10 threads on 9 processors"),
        (4, "little", ""),
        (5, "little", "5 threads on 4 processors"),
    ],
)
def test_more_threads_than_processors_are_told(threads: int | None, cores: str, told: str) -> None:
    assert oversubscribed(Cell(device="d", model="m", threads=threads, cores=cores), PIXEL) == told


def test_a_plan_takes_clusters_and_masks_as_yaml_gives_them() -> None:
    plan = Plan.model_validate({"devices": ("x",), "models": ("y",), "cores": ["big", 0xF0]})
    assert {c.cores for c in plan.cells()} == {"big", "0xf0"}
    with pytest.raises(PlanError, match="cores"):
        Plan(devices=("x",), models=("y",), include=({"cores": "huge"},)).cells()


def test_cells_on_all_cores_keep_the_ids_they_had() -> None:
    assert Cell(device="d", model="m").id == Cell(device="d", model="m", cores="all").id
    assert Cell(device="d", model="m").id != Cell(device="d", model="m", cores="big").id


def test_a_phones_gpu_takes_the_ndks_build(monkeypatch: pytest.MonkeyPatch) -> None:
    assert phone_gpu_target(PIXEL).name == "android-arm64-vulkan"
    assert phone_gpu_target(PIXEL.model_copy(update={"extra": ADRENO})).name == "android-arm64-opencl"
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK"):
        monkeypatch.delenv(name, raising=False)
    from contextlib import nullcontext

    cell = Cell(device="phone", model="m", accelerator="gpu")
    with pytest.raises(RunnerError, match="no Android NDK"):
        LlamaCpp().prepare(cell, PIXEL, lambda what: nullcontext(lambda done, total: None))
