"""Options of a backend's own: which cells they go to, and what is refused before any device is touched."""

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

import melt.backends
from melt.backends.options import admitted_cells
from melt.errors import PlanError
from melt.spec.cell import Cell
from melt.spec.options import Option, option_values
from melt.spec.plan import Plan
from tests.support.packages import TESTS


@pytest.fixture(autouse=True)
def read_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example backend, which has the option block_kib from 1 to 65536, 256 by default."""
    monkeypatch.syspath_prepend(TESTS / "example_backend")
    points = [
        *entry_points(group=melt.backends.GROUP),
        EntryPoint("read-weights", "melt_read_weights.backend:ReadWeights", melt.backends.GROUP),
    ]
    monkeypatch.setattr(melt.backends, "entry_points", lambda group: points)


def cells(**keys: Any) -> tuple[Cell, ...]:
    given = {"devices": ("local",), "models": ("m",), "context": (8,), "backends": ("read-weights",)}
    return admitted_cells(Plan(**given | keys))


def test_values_multiply_and_each_is_a_cell_of_its_own() -> None:
    made = cells(options={"block_kib": [64, 512]}, context=(8, 16))
    assert [(c.prompt_tokens, dict(c.options)) for c in made] == [
        *((8, {"block_kib": 64}), (8, {"block_kib": 512}), (16, {"block_kib": 64}), (16, {"block_kib": 512}))
    ]
    assert len({c.id for c in made}) == 4


def test_the_default_is_one_cell_whether_it_is_written_or_not() -> None:
    assert cells(options={"block_kib": 256}) == cells() == cells(options=[{"block_kib": 256}, {}])
    assert cells(options={"block_kib": [64, 256]}, exclude=({"options": {"block_kib": 256}},)) == cells(
        options={"block_kib": 64}
    )


def test_an_include_may_give_its_options_as_pairs() -> None:
    assert cells(include=({"options": [["block_kib", 8]]},)) == cells(include=({"options": {"block_kib": 8}},))


def test_a_number_is_one_cell_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    example = type(melt.backends.load_backend("read-weights"))
    monkeypatch.setattr(example, "options", (Option("share", Annotated[float, Field(ge=0)], 0.5, ""),))
    assert len({cell.id for value in (1, 1.0) for cell in cells(options={"share": value})}) == 1


def test_an_option_goes_to_the_cells_alone_whose_backend_has_it() -> None:
    made = cells(backends=("llama.cpp", "read-weights"), options={"block_kib": [64, 512]})
    assert [(c.backend, dict(c.options)) for c in made] == [
        ("llama.cpp", {}),
        ("read-weights", {"block_kib": 64}),
        ("read-weights", {"block_kib": 512}),
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"options": {"blok_kib": 64}}, "no backend of this plan .read-weights. has 'blok_kib'.*block_kib"),
        ({"options": {"block_kib": 64}, "backends": ("llama.cpp",)}, "no backend of this plan .llama.cpp. has"),
        ({"options": {"block_kib": 0}}, "block_kib: read-weights takes 1 to 65536, not 0"),
        ({"options": {"block_kib": "64"}}, "takes 1 to 65536, not '64'"),
        ({"options": {"block_kib": True}}, "takes 1 to 65536, not True"),
        ({"include": ({"options": {"block_kib": 10**9}},)}, "takes 1 to 65536"),
        (
            {
                "backends": ("read-weights", "llama.cpp"),
                "include": ({"backend": "llama.cpp", "options": {"block_kib": 8}},),
            },
            r"include\[0\]: llama.cpp has no option 'block_kib'",
        ),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        cells(**keys)


def test_a_backend_that_is_not_installed_is_told_by_whoever_reads_names() -> None:
    assert [c.backend for c in cells(backends=("nonesuch",), options={"x": 1})] == ["nonesuch"]


@pytest.mark.parametrize(
    ("type_", "values", "good", "bad"),
    [
        (Literal["fast", "slow"], "fast, slow", "fast", "quick"),
        (Annotated[int, Field(ge=2)], "a whole number from 2", 2, 1),
        (Annotated[float, Field(ge=0, le=1)], "0 to 1", 1, 1.5),
        (bool, "true or false", True, 1),
        (str, "text", "x", 1),
    ],
)
def test_an_option_says_what_it_takes(type_: Any, values: str, good: Any, bad: Any) -> None:
    option = Option("o", type_, good, "what it does")
    assert option.described == f"o ({values}; default {good}): what it does"
    assert option.takes(good)
    assert not option.takes(bad)


def test_values_that_a_cell_does_not_name_are_the_defaults() -> None:
    declared = (Option("a", int, 1, ""), Option("b", int, 2, ""))
    assert option_values(declared, (("b", 5),)) == {"a": 1, "b": 5}
