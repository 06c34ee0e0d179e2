"""A cell's id is its content, and what is stored is found again by it for ever."""

import json
from pathlib import Path
from typing import Any

import pytest

from melt.spec.cell import AXES, Cell

STORED = sorted((Path(__file__).parents[1] / "data" / "reference-1").glob("*/manifest.json"))
# Ids as they were before cells had rows of axes, each field that came late among them.
PINNED: list[tuple[str, dict[str, Any]]] = [
    ("c519dcec91bd", {}),
    ("c519dcec91bd", {"runner": "python"}),
    ("6f859a75e6ae", {"runner": "native"}),
    ("8ac250a85054", {"cores": "big"}),
    ("ebd1979ebcbb", {"power_mode": "15W"}),
    ("6a2d885fcf14", {"cpu_fallback": True}),
    ("4b65903969e6", {"accelerator": "npu", "cpu_fallback": True}),
    ("6640c0705914", {"workload": "sustained", "sustained_s": 60}),
    ("3b8ee5fe7baf", {"threads": 4, "type_k": "q8_0", "flash_attn": "on", "ubatch": 64}),
    ("e6d633513137", {"warmups": 0, "iterations": 5, "seed": 7, "gen_tokens": 8, "prompt_tokens": 128}),
]


def test_stored_cells_keep_their_ids() -> None:
    assert len(STORED) > 80
    for path in STORED:
        manifest = json.loads(path.read_text())
        assert Cell(**manifest["cell"]).id == manifest["cell_id"], path


@pytest.mark.parametrize(("id_", "fields"), PINNED)
def test_no_version_gives_another_id(id_: str, fields: dict[str, Any]) -> None:
    assert Cell(device="local", model="m", **fields).id == id_


def test_a_field_that_comes_late_adds_nothing_by_its_default() -> None:
    """Only the fields of the first version are in every id."""
    in_every_id = [name for name, axis in AXES.items() if axis.default not in axis.older_than_field]
    assert in_every_id == [
        *("device", "model", "backend", "accelerator", "prompt_tokens", "gen_tokens", "threads", "batch", "ubatch"),
        *("flash_attn", "type_k", "type_v", "workload", "sustained_s", "warmups", "iterations", "seed"),
    ]


def test_a_cell_asks_its_device_for_conditions() -> None:
    assert Cell(device="nano", model="m").conditions == {}
    assert Cell(device="nano", model="m", power_mode="15W").conditions == {"power_mode": "15W"}


def test_a_label_says_what_is_not_the_default() -> None:
    assert Cell(device="local", model="m").label() == "local · m · llama.cpp · cpu · 512 tokens"
    cell = Cell(device="nano", model="m", runner="native", threads=4, power_mode="15W", type_k="q8_0", seed=7)
    said = "nano · m · llama.cpp · cpu · runner native · 512 tokens · 4 threads · power mode 15W · key cache q8_0"
    assert cell.label() == said


def test_a_label_counts_one_thing_as_one() -> None:
    assert Cell(device="local", model="m", prompt_tokens=1, threads=1).label().endswith(" · 1 token · 1 thread")
