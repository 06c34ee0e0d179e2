"""What a plan leaves out is read as the rest of it is, and what would leave out nothing is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from melt.errors import PlanError
from melt.spec.cell import AXES
from melt.spec.plan import Plan, check_complete, load_plan, to_yaml

BASE: dict[str, Any] = {"devices": ["local"], "models": ["synth:smollm2-135m@Q4_0"], "context": [32, 64]}


def written(folder: Path, exclude: object, **keys: object) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**BASE, **keys, "exclude": exclude}, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("keys", "exclude", "said"),
    [
        (
            {"flash_attn": ["on", "off"]},
            [{"flash_attn": False}],
            r":\d+: exclude.0.flash_attn: .*'auto', 'on' or 'off'",
        ),
        ({}, [{"prompt_tokens": "64"}], r":\d+: exclude.0.prompt_tokens: .*integer"),
        ({}, [{"prompt_tokens": [32, 0]}], r":\d+: exclude.0.prompt_tokens.1: .*greater"),
        ({}, [{"cpu_fallback": 0}], "exclude.0.cpu_fallback: .*boolean"),
        ({"workload": "sustained", "sustained_s": 1}, [{"sustained_s": True}], "exclude.0.sustained_s: .*number"),
        ({}, [{"options": 3}], "exclude.0.options: .*dict"),
        ({}, ["local"], "exclude.0: .*dict"),
        ({}, [{"model": "synth:smollm2-135m"}], "exclude.0.: model: no cell .*did you mean 'synth:smollm2-135m@Q4_0'"),
        ({}, [{"prompt_tokens": [32, 128]}], "exclude.0.: prompt_tokens: no cell of this plan has 128"),
        ({}, [{"options": {"x": 1}}], "exclude.0.: options: no cell"),
        ({"workload": ["fixed", "sustained"], "sustained_s": 9}, [{"workload": "fixed", "sustained_s": 9}], "at once"),
        ({}, [{"modle": "x"}], "exclude.0.: unknown key 'modle' .did you mean 'model'"),
        ({}, [{"context": 128}], "exclude.0.: unknown key 'context' .a cell has 'prompt_tokens'"),
        ({}, [{"device": "local", "gen": 4}], "exclude.0.: unknown key 'gen' .a cell has 'gen_tokens'"),
    ],
)
def test_what_would_leave_out_nothing_is_refused(
    tmp_path: Path, keys: dict[str, Any], exclude: list[Any], said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        load_plan(written(tmp_path, exclude, **keys))


def test_values_are_read_as_a_plans_own(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("device: local\nmodel: m\ncores: [all, 0x1]\nexclude: [{cores: 0x1}]\n")
    assert {c.cores for c in load_plan(path).cells()} == {"all"}
    path.write_text("device: local\nmodel: m\nsustained_s: [5, 9]\nworkload: sustained\nexclude: [{sustained_s: 5}]\n")
    assert {c.sustained_s for c in load_plan(path).cells()} == {9.0}


@pytest.mark.parametrize("name", sorted(AXES.keys() - {"options"}))
def test_every_value_of_every_axis_can_be_left_out(name: str) -> None:
    first = {axis.key: axis.default for axis in AXES.values()} | {"devices": "local", "models": "m", "options": {}}
    plan = Plan(**first, exclude=({name: first[AXES[name].key]},))
    assert plan.product()
    assert plan.cells() == ()


def test_what_the_command_line_took_away_need_not_be_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path, [{"device": "phone", "prompt_tokens": [64]}, {"prompt_tokens": [32, 64]}], devices=["local", "phone"]
    )
    plan = load_plan(path, {"devices": ("local",), "context": (64, 512)})
    assert plan.exclude == ({"prompt_tokens": (64,)},)
    assert [c.prompt_tokens for c in plan.cells()] == [512]
    assert load_plan(path, {"context": (512,)}).exclude == ()
    path.write_text(to_yaml(plan))
    assert load_plan(path) == plan


def test_a_plan_made_in_python_is_held_to_the_same() -> None:
    with pytest.raises(PlanError, match="no cell of this plan has 'other'"):
        check_complete(Plan(**BASE, exclude=({"model": "other"},)))
