"""A plan becomes the cells a person would expect, or a message that says what is wrong and where."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from melt.cli.run import run
from melt.errors import PlanError
from melt.spec.cell import AXES, Cell
from melt.spec.plan import NOT_IN_A_PLAN, SINGULAR, Plan, check_complete, load_plan, to_yaml
from melt.spec.schedule import interleave


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


def test_cells_are_the_product_of_the_axes() -> None:
    plan = Plan(devices=("a", "b"), models=("m", "n"), context=(128, 512), gen=(8,))
    cells = plan.cells()
    assert len(cells) == 8
    assert {(c.device, c.model, c.prompt_tokens) for c in cells} == {
        (d, m, p) for d in "ab" for m in "mn" for p in (128, 512)
    }


def test_options_and_yaml_say_the_same_things(tmp_path: Path) -> None:
    path = write(tmp_path, "devices: [local]\nmodels: [m.gguf]\ncontext: [128, 512]\nsessions: 2\n")
    by_options = {"devices": ("local",), "models": ("m.gguf",), "context": (128, 512), "sessions": 2}
    assert load_plan(path) == load_plan(None, by_options)


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "devices: [local]\nmodels: [m.gguf]\nsessions: 2\n")
    assert load_plan(path, {"sessions": 7}).sessions == 7


def test_a_single_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, "devices: local\nmodels: m.gguf\ncontext: 128\n"))
    assert [c.prompt_tokens for c in plan.cells()] == [128]


def test_a_plan_may_use_the_options_own_words(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, "device: [a, b]\nmodel: m.gguf\naccelerator: cpu\ncontext: 32,64\n"))
    assert (plan.devices, plan.models, plan.context) == (("a", "b"), ("m.gguf",), (32, 64))
    assert load_plan(write(tmp_path, "device: a\nmodel: m\n"), {"devices": ("z",)}).devices == ("z",)


@pytest.mark.parametrize(("field", "key"), [("prompt_tokens", "context"), ("gen_tokens", "gen")])
def test_a_cells_word_for_a_key_of_a_plan_leads_to_that(tmp_path: Path, field: str, key: str) -> None:
    path = write(tmp_path, f"device: a\nmodel: m\n{field}: 8\n")
    with pytest.raises(PlanError, match=rf"plan.yaml:3: unknown key '{field}'") as e:
        load_plan(path)
    assert repr(key) in e.value.hint
    with pytest.raises(PlanError, match=f"command line: unknown key '{field}'"):
        load_plan(None, {"devices": ("a",), "models": ("m",), field: 8})


def test_every_setting_may_be_a_list() -> None:
    plan = Plan(devices="local", models="m", context=8, ubatch=(64, 128), flash_attn=("on", "off"), warmups=(0, 1))
    assert len({(c.ubatch, c.flash_attn, c.warmups) for c in plan.cells()}) == len(plan.cells()) == 8


def test_a_duration_is_a_sustained_workloads_alone() -> None:
    plan = Plan(devices="local", models="m", context=8, workload=("fixed", "sustained"), sustained_s=(60, 300))
    assert [(c.workload, c.sustained_s) for c in plan.cells()] == [("fixed", 0), ("sustained", 60), ("sustained", 300)]


def test_options_multiply_and_go_to_the_backend_that_knows_them(tmp_path: Path) -> None:
    path = write(tmp_path, "device: local\nmodel: m\ncontext: 8\noptions: {block_kib: [64, 256], warm: true}\n")
    plan = load_plan(path, {"backends": ("llama.cpp", "read-weights")})
    assert [dict(c.options) for c in plan.cells()] == 2 * [{"block_kib": n, "warm": True} for n in (64, 256)]
    knows = {"llama.cpp": (), "read-weights": ("block_kib",)}
    cells = plan.cells(options_of=lambda backend: knows[backend])
    assert [(c.backend, dict(c.options)) for c in cells] == [
        ("llama.cpp", {}),
        ("read-weights", {"block_kib": 64}),
        ("read-weights", {"block_kib": 256}),
    ]
    assert load_plan(write(tmp_path, to_yaml(plan))) == plan
    few = plan.model_copy(update={"exclude": ({"options": {"block_kib": 64}},)})
    assert [dict(c.options)["block_kib"] for c in few.cells()] == [256, 256]
    none = plan.model_copy(update={"exclude": ({"options": {"block_kib": [64, 256], "warm": True}},)})
    assert none.cells() == ()
    patterns: list[dict[str, object]] = [
        {"options": {"block_kib": [64], "cold": True}},
        {"model": {"block_kib": 64}},
        {"gen_tokens": {"a": 1}},
        {"gen_tokens": {}},
    ]
    for pattern in patterns:
        assert plan.model_copy(update={"exclude": (pattern,)}).cells() == plan.cells()


@pytest.mark.parametrize("given", [{"1x": 1}, {"a": None}, {"a": [[1]]}, {"a": float("inf")}, [["a", 1], ["a", 2]], 3])
def test_options_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Plan(devices="local", models="m", options=given)


def test_a_plan_beyond_all_time_is_refused_before_it_is_multiplied_out() -> None:
    long = range(2, 1002)
    plan = Plan(devices="local", models="m", context=long, gen=long, seed=long)
    with pytest.raises(PlanError, match="multiplies to"):
        plan.cells()
    with pytest.raises(ValidationError, match="more than 100,000 combinations"):
        Plan(devices="local", models="m", options={name: [*range(100)] for name in "abcdefgh"})


@pytest.mark.parametrize(("one", "many"), [("model", "models"), ("device", "devices"), ("backend", "backends")])
def test_a_key_in_both_its_forms_is_refused_as_one_would_be_lost(tmp_path: Path, one: str, many: str) -> None:
    path = write(tmp_path, f"{one}: a\n{many}: [b]\n")
    with pytest.raises(PlanError, match=f"plan.yaml: {one!r} and {many!r} are one key"):
        load_plan(path)
    with pytest.raises(PlanError, match=f"command line: {one!r} and {many!r} are one key"):
        load_plan(None, {many: ("b",), one: "a"})


def test_a_cell_with_options_survives_json() -> None:
    cell = Cell(device="local", model="m", options={"b": "x", "a": 1})
    again = Cell.model_validate_json(cell.model_dump_json())
    assert (again, again.id, hash(again)) == (cell, cell.id, hash(cell))
    assert cell.options == (("a", 1), ("b", "x"))


def test_exclude_takes_out_and_include_adds() -> None:
    plan = Plan(
        devices=("local",),
        models=("m", "n"),
        context=(128, 512),
        exclude=({"model": "n", "prompt_tokens": [512]},),
        include=({"model": "m", "prompt_tokens": 4096},),
    )
    assert {(c.model, c.prompt_tokens) for c in plan.cells()} == {("m", 128), ("m", 512), ("n", 128), ("m", 4096)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devices: [local]\nmodles: [m]\n", "plan.yaml:2: unknown key 'modles' (did you mean 'models'?)"),
        ("devices: [local]\nmodels: [m]\nsessions: 0\n", "plan.yaml:3: sessions"),
        ("devices: [local]\nmodels: [m]\ncooldown:\n  limit: 3\n", "plan.yaml:4: unknown key 'cooldown.limit'"),
        ("devices: [local]\nmodels: [m]\ncontext: [128, abc]\n", "context.1"),
        ("devices: [local]\nmodels: [m]\ncontext: [-5]\n", "plan.yaml:3: context.0"),
        ("devices: [local]\nmodels: [m]\ngen: 1\n", "plan.yaml:3: gen: "),
        ("devices: [local]\nmodels: [m]\ninclude: [{contxt: 3}]\n", "include[0]: unknown key 'contxt'"),
        ("devices: [local]\n", "no models given"),
        ("device: local\nmodel: m\ncontext: [32]\ncontext: [64]\n", "plan.yaml:4: key 'context' is given twice"),
        (
            "device: local\nmodel: m\ncooldown:\n  limit_s: 1\n  limit_s: 2\n",
            "plan.yaml:5: key 'limit_s' is given twice",
        ),
        ("device: local\nmodel: m\ncontext: []\n", "context is empty"),
        ("device: local\nmodel: m\nresults: r\n", "plan.yaml:3: 'results' is not part of a plan"),
        ("device: local\nmodel: m\nname: ../../up\n", "plan.yaml:3: name"),
        ("device: local\nmodel: m\nname: ''\n", "plan.yaml:3: name"),
        ("device: local\nmodel: m\ncontext: '32,x'\n", "context.1"),
        ("models: [m]\n", "no devices given"),
        ("- just\n- a list\n", "not a mapping"),
        ("devices: [local\n", "plan.yaml:"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        (f"a: {'[' * 200_000}\n", "plan.yaml:1: nested more than 50 deep"),
        (f"a:\n{'- ' * 60}x\n", "nested more than 50 deep"),
        ("devices: [local]\nmodels: [m]\nworkload: sustained\n", "sustained_s"),
        ("devices: [local]\nmodels: [m]\nexclude: [{device: local}]\n", "plan.yaml: exclude leaves no cell to measure"),
        ('devices: [local]\nmodels: ["m\\0.gguf"]\n', "plan.yaml:2: a text with a NUL character"),
        ("devices: !!python/object/apply:os.system ['true']\n", "plan.yaml:1"),
    ],
)
def test_a_wrong_plan_is_refused_with_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PlanError) as e:
        load_plan(write(tmp_path, text))
    assert said in e.value.message
    assert e.value.hint


KINDS = {
    name: {kind.get("type") for kind in (axis.schema, *axis.schema.get("anyOf", ()))} for name, axis in AXES.items()
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((AXES[name].key, True) for name, kinds in KINDS.items() if kinds & {"integer", "number"}),
        *((AXES[name].key, "1") for name, kinds in KINDS.items() if kinds & {"integer", "number"}),
        *((AXES[name].key, wrong) for name, kinds in KINDS.items() if "boolean" in kinds for wrong in (1, 0, "yes")),
        *((key, True) for key in ("sessions", "retries", "idle_s", "memory_fraction")),
        ("memory_check", 0),
        ("profile_ops", "yes"),
        ("cooldown", {"limit_s": True}),
        ("timeouts", {"load_s": "60"}),
    ],
)
def test_a_truth_is_no_number_and_a_text_is_neither(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Plan(devices="local", models="m", **{key: value})


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as e:
        load_plan(write(tmp_path, "devices: [local]\nmodels: [m]\nsessions: 0\niterations: -1\nnonsense: 1\n"))
    assert all(word in e.value.message for word in ("sessions", "iterations", "nonsense"))


def test_a_wrong_option_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "devices: [local]\nmodels: [m]\nsessions: 2\niterations: 0\n")
    with pytest.raises(PlanError) as e:
        load_plan(path, {"sessions": 0, "ubatsch": 2})
    lines = e.value.message.splitlines()
    assert {line.split(": ")[0] for line in lines if "sessions" in line or "ubatsch" in line} == {"command line"}
    assert f"{path}:4: iterations" in e.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no-such\.yaml"):
        load_plan(tmp_path / "no-such.yaml")


def test_a_plan_survives_yaml(tmp_path: Path) -> None:
    plan = Plan(
        name="x", devices=("local",), models=("m",), context=(1, 2), sessions=5, exclude=({"prompt_tokens": 2},)
    )
    assert load_plan(write(tmp_path, to_yaml(plan))) == plan


def test_cells_that_name_a_power_mode_stay_apart_from_those_that_name_none() -> None:
    both = {"devices": ("nano",), "models": ("m",), "power_mode": ("15W",), "include": ({"power_mode": None},)}
    with pytest.raises(PlanError, match="some cells of nano name a power mode and others do not"):
        check_complete(Plan.model_validate(both))
    one = Cell(device="nano", model="m")
    assert one.id == Cell(device="nano", model="m", power_mode=None).id
    assert one.id != Cell(device="nano", model="m", power_mode="15W").id


def test_a_round_moves_a_power_mode_once() -> None:
    cells = Plan(devices=("nano",), models=("a", "b", "c"), power_mode=("15W", "25W"), context=(1, 2, 3)).cells()
    order = [cell.power_mode for cell, _ in interleave(cells, 4, 0)]
    for at in range(0, len(order), len(cells)):
        one_round = order[at : at + len(cells)]
        assert sum(a != b for a, b in pairwise(one_round)) == 1


def test_a_cells_id_is_its_content() -> None:
    cell = Cell(device="local", model="m")
    assert cell.id == Cell(device="local", model="m").id
    assert cell.id != Cell(device="local", model="m", prompt_tokens=513).id
    # Stored results are found again by this id: it must not change from version to version.
    assert cell.id == "c519dcec91bd"


@given(cells=st.integers(1, 12), sessions=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_interleaving_measures_everything_once_and_stays_balanced(cells: int, sessions: int, seed: int) -> None:
    all_cells = [Cell(device="d", model=f"m{i}") for i in range(cells)]
    order = interleave(all_cells, sessions, seed)
    assert sorted((c.model, s) for c, s in order) == sorted((c.model, s) for c in all_cells for s in range(sessions))
    assert [s for _, s in order] == sorted(s for _, s in order)
    assert order == interleave(all_cells, sessions, seed)


def test_interleaving_does_not_keep_the_given_order() -> None:
    cells = [Cell(device="d", model=f"m{i}") for i in range(12)]
    rounds = [[c.model for c, s in interleave(cells, 2, seed=1) if s == i] for i in (0, 1)]
    assert rounds[0] != rounds[1]
    assert rounds[0] != [c.model for c in cells]


def test_the_page_on_plans_lists_every_axis() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
    for axis in AXES.values():
        option = f"`{axis.option}`" if axis.option else ""
        default = ", ".join(f"`{axis.text(value)}`" for value in axis.default_list or ())
        more = f" ([{axis.page}]({axis.page}))" if axis.page else ""
        assert f"| `{axis.key}` | {option} | {default} | {axis.described}{more} |" in page.splitlines()


@pytest.mark.parametrize("given", ["swap", ("mmap", "swap")])
def test_a_value_of_an_option_is_named_as_its_option_is(given: object) -> None:
    with pytest.raises(PlanError) as raised:
        load_plan(None, {"devices": ("local",), "models": ("m",), "load_mode": given})
    assert raised.value.message.startswith("command line: load_mode: Input should be 'mmap' or 'read' (got 'swap')")


def test_options_that_are_no_part_of_a_plan_are_known_as_such() -> None:
    options = {name.removeprefix("--").replace("-", "_") for p in run.params for name in p.opts if name[:2] == "--"}
    in_a_plan = {*Plan.model_fields, *SINGULAR, *(a.option.removeprefix("--").replace("-", "_") for a in AXES.values())}
    assert options - in_a_plan == {*NOT_IN_A_PLAN, "set"}
