"""What tests of the frames share."""

import json

import pytest

import melt
from melt.store.store import EVENTS, Run
from tests.support.store_factory import MAMBA, SMOLLM, Recipe, write_store


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> melt.Results:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, models=(SMOLLM, MAMBA), contexts=(128, 1024), recipe=Recipe(ops=True))
    return melt.load(folder)


def events_of(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.folder / EVENTS).read_text().splitlines()]


def rewrite(run: Run, events: list[dict[str, object]]) -> None:
    (run.folder / EVENTS).write_text("".join(json.dumps(e) + "\n" for e in events))
