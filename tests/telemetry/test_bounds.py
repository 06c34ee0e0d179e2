"""A reading that cannot be is no reading, and is told."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import melt
from melt.telemetry.bounds import BOUNDS
from melt.telemetry.series import read
from melt.telemetry.source import Discovery, Quantity, Source
from tests.support.store_factory import MAMBA, Recipe, write_run

STEP_NS = 100_000_000


def source(name: str, quantity: Quantity, **more: object) -> Source:
    return Source.model_validate({"name": name, "quantity": quantity, "sensor": "gauge", "site": "battery", **more})


def lines(**raws: list[object]) -> str:
    """The sampler's lines of some probes, read one after the other."""
    rows = [
        {"t_ns": i * STEP_NS, "t_end_ns": i * STEP_NS + 10, "probe": name, "raw": str(raw)}
        for name, of_one in raws.items()
        for i, raw in enumerate(of_one)
    ]
    return "\n".join(json.dumps(row, separators=(",", ":")) for row in rows)


def test_every_quantity_has_bounds() -> None:
    assert set(BOUNDS) == set(get_args(Quantity))


@pytest.mark.parametrize(
    ("quantity", "scale", "odd", "told"),
    [
        ("temperature_c", 1e-3, 9_999_900, "1e+04 °C, which is not between -40 and 200"),
        ("temperature_c", 1e-3, -55_000, "-55 °C"),
        ("voltage_v", 1e-6, 10**19, "1e+13 V"),
        ("power_w", 1e-6, -(2**63), "-9.223e+12 W"),
        ("frequency_hz", 1e3, 2**64, "Hz"),
        ("memory_bytes", 1.0, -1, "-1 bytes"),
    ],
)
def test_what_cannot_be_is_left_out_and_said(quantity: Quantity, scale: float, odd: int, told: str) -> None:
    found = read(Discovery(sources=(source("s", quantity, scale=scale),)), lines(s=[7, odd, 8, odd]))
    assert found.series["s"].value == pytest.approx(np.array([7, 8]) * scale)
    assert found.refused["s"].count == 2
    assert told in str(found.refused["s"])


def test_a_product_that_cannot_be_is_left_out_too() -> None:
    """A battery's power is its current times its voltage; the current alone says nothing of its unit."""
    power = source("p", "power_w", scale=1e-6, times="v")
    found = read(
        Discovery(sources=(power, source("v", "voltage_v", scale=1e-6))),
        lines(p=[500_000, -(2**63), 600_000], v=[4_000_000, 4_000_000, 4_000_000]),
    )
    assert found.series["p"].value == pytest.approx([2.0, 2.4])
    assert found.series["p"].new_ns.tolist() == [2 * STEP_NS + 5]
    assert found.refused["p"].count == 1


def test_a_run_with_such_readings_is_flagged_and_its_temperature_is_of_the_others(tmp_path: Path) -> None:
    run = write_run(tmp_path, MAMBA, 128, recipe=Recipe())
    path = run.folder / "telemetry.jsonl"
    hot = next(s for s in run.manifest.telemetry.sources if s.quantity == "temperature_c")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    middle = [row for row in rows if row["probe"] == hot.probe][3]
    before = melt.load(tmp_path).runs["max_temp_c"].iloc[0]
    middle["raw"] = "9999900"
    path.write_text("\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n")
    results = melt.load(tmp_path)
    assert results.runs["max_temp_c"].iloc[0] <= before
    [evidence] = results.flags[results.flags["flag"] == "impossible_readings"]["evidence"]
    assert evidence == f"left out: {hot.name} said 1e+04 °C, which is not between -40 and 200 (1 reading)"
