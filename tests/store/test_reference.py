"""The reference set that the README's picture is made from stays readable, whatever the store's schema becomes."""

import re
from pathlib import Path

import melt
from melt.spec.plan import load_plan

ROOT = Path(__file__).parents[2]


def test_every_run_of_the_reference_plan_is_there_and_ok() -> None:
    plan = load_plan(ROOT / "plans" / "reference.yaml")
    results = melt.load(ROOT / "results" / "reference")
    assert not results.damaged
    assert set(results.runs["status"]) == {"ok"}
    asked = results.cells[~results.cells["adaptive"]]
    assert set(asked["cell_id"]) == {c.id for c in plan.cells()}
    assert (asked["n_clean"] == plan.sessions).all()
    assert set(results.runs["family"]) == {"transformer", "ssm", "hybrid"}


def test_it_holds_no_path_of_the_machine_it_was_made_on() -> None:
    for path in (ROOT / "results" / "reference").glob("*/*"):
        assert not re.search(r"/(root|home|work|tmp)/", path.read_text()), path
