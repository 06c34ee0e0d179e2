"""A store loses nothing, half-writes nothing, and says clearly what it cannot read."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melt.errors import StoreError
from melt.spec.events import UnknownLine
from melt.store.manifest import MANIFEST, SCHEMA, DamagedRunError, migrate, read_manifest
from melt.store.store import EVENTS, PLAN, STDERR, TELEMETRY, Store
from melt.util.locks import is_held
from tests.support.store_factory import write_store
from tests.support.waiting import wait_until

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_store(tmp_path / "results")
    return tmp_path / "results"


def a_run(folder: Path) -> Path:
    return next(p.parent for p in sorted(folder.glob(f"*/{MANIFEST}")))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_is_published_is_read_back(folder: Path) -> None:
    runs, damaged = Store(folder).runs()
    assert runs
    assert not damaged
    assert [r.manifest.started_at for r in runs] == sorted(r.manifest.started_at for r in runs)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such results folder"):
        Store(tmp_path / "nowhere").runs()


@pytest.mark.parametrize("name", [MANIFEST, EVENTS, TELEMETRY, PLAN, STDERR])
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("/etc/hostname")]
)
def test_what_is_no_regular_file_is_named_and_never_opened(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    file = a_run(folder) / name
    file.unlink(missing_ok=True)
    make(file)
    [damaged] = Store(folder).runs()[1]
    assert (damaged.folder, damaged.reason) == (file.parent, f"{name} is no regular file")


def test_a_manifest_beyond_all_size_is_named_unread(folder: Path) -> None:
    with (a_run(folder) / MANIFEST).open("ab") as file:
        file.truncate(2**40)
    [damaged] = Store(folder).runs()[1]
    assert "larger than" in damaged.reason


def test_a_line_beyond_all_size_is_no_event_and_the_others_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.store.store.MAX_LINE_CHARS", 1000)
    monkeypatch.setattr("melt.spec.events.MAX_LINE_CHARS", 1000)
    run = next(r for r in Store(folder).runs()[0] if r.folder == a_run(folder))
    before = list(run.events())
    lines = (run.folder / EVENTS).read_text().splitlines(keepends=True)
    (run.folder / EVENTS).write_text("".join([lines[0], "x" * 2500, "\n", *lines[1:], "y" * 3000]))
    after = list(run.events())
    odd = [e for e in after if isinstance(e, UnknownLine)]
    assert [e.reason for e in odd] == ["longer than 1000 characters"] * 2
    assert [e for e in after if not isinstance(e, UnknownLine)] == before


def test_a_stream_beyond_all_size_is_named_unread(folder: Path) -> None:
    with (a_run(folder) / TELEMETRY).open("ab") as file:
        file.truncate(2**40)
    [damaged] = Store(folder).runs()[1]
    assert damaged.reason == f"{TELEMETRY} is larger than 1024 MiB"


def test_a_run_whose_id_is_not_its_cells_is_named_and_the_others_load(folder: Path) -> None:
    before, manifest = len(Store(folder).runs()[0]), a_run(folder) / MANIFEST
    cell = json.loads(manifest.read_text())["cell"]
    change(manifest, cell=cell | {"prompt_tokens": cell["prompt_tokens"] + 1})
    runs, [damaged] = Store(folder).runs()
    assert len(runs) == before - 1
    assert damaged.folder == manifest.parent
    assert "is not that of its cell" in damaged.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": "1"}',
        '{"schema_version": 1}',
        "[" * 10_000,
        '{"schema_version": 0}',
        "\x00\xff",
    ],
)
def test_a_damaged_run_is_reported_and_the_others_load(folder: Path, text: str) -> None:
    before = len(Store(folder).runs()[0])
    (a_run(folder) / MANIFEST).write_text(text)
    runs, damaged = Store(folder).runs()
    assert len(runs) == before - 1
    assert [d.folder for d in damaged] == [a_run(folder)]
    assert damaged[0].reason


def test_a_lost_manifest_is_reported(folder: Path) -> None:
    lost = a_run(folder)
    (lost / MANIFEST).unlink()
    assert [d.folder for d in Store(folder).runs()[1]] == [lost]


def test_results_of_a_newer_melt_are_refused(folder: Path) -> None:
    change(a_run(folder) / MANIFEST, schema_version=SCHEMA + 1)
    with pytest.raises(StoreError) as e:
        Store(folder).runs()
    assert str(SCHEMA + 1) in e.value.message
    assert "Update melt" in e.value.hint


def test_older_schemas_are_migrated_step_by_step() -> None:
    steps = {
        1: lambda d: {**d, "name": d["title"]},
        2: lambda d: {**{k: v for k, v in d.items() if k != "title"}, "length": len(d["name"])},
    }
    assert migrate({"schema_version": 1, "title": "abc"}, steps, 3) == {"schema_version": 3, "name": "abc", "length": 3}
    assert migrate({"schema_version": 3, "name": "x"}, steps, 3) == {"schema_version": 3, "name": "x"}
    with pytest.raises(DamagedRunError, match="schema 0"):
        migrate({"schema_version": 0}, steps, 3)


@pytest.mark.parametrize("old", sorted((DATA / "schema-1").iterdir()), ids=lambda f: f.name)
def test_a_run_of_schema_1_loads_as_it_was(old: Path) -> None:
    data = json.loads((old / MANIFEST).read_text())
    assert data["schema_version"] == 1
    loaded = read_manifest(old / MANIFEST)
    assert loaded.schema_version == SCHEMA
    assert (loaded.disturbed, loaded.pair, loaded.arm, loaded.farm) == ((), None, None, None)
    now = loaded.model_dump(mode="json")
    for name in ("run_id", "cell_id", "passport", "session", "attempt", "status", "started_at", "prediction", "job"):
        assert now[name] == data[name]


def test_partial_folders_of_the_dead_are_swept_and_of_the_living_kept(folder: Path) -> None:
    script = "import sys, time; from pathlib import Path; from melt.store.store import Store; "
    script += "print(Store(Path(sys.argv[1])).begin('x').folder, flush=True); time.sleep(1000)"
    # In a room of its own it has another number there than here, as in a container that shares the folder.
    alone = ("unshare", "--pid", "--fork", "--kill-child") if os.geteuid() == 0 else ()
    with subprocess.Popen([*alone, sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        mine = Store(folder).begin("mine")
        assert theirs.exists()
        other.kill()
    wait_until(lambda: not is_held(theirs))
    Store(folder).begin("new")
    assert not theirs.exists()
    assert mine.folder.exists()


def test_a_full_disk_leaves_nothing_half_written(folder: Path) -> None:
    store = Store(folder)
    run = store.runs()[0][0]
    before = sorted(folder.iterdir())
    partial = store.begin("full")
    (partial.folder / MANIFEST).symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left"):
        store.publish(partial, run.manifest.model_copy(update={"run_id": "full"}))
    assert sorted(folder.iterdir()) == before


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file").begin("x")


def test_each_attempt_at_a_unit_is_there_once_whoever_writes(folder: Path) -> None:
    store, run = Store(folder), Store(folder).runs()[0][0]
    unit = (run.manifest.cell_id, run.manifest.session)
    for name in ("a", "b"):
        run_id = f"20300101T000000-{run.manifest.cell_id}-s{run.manifest.session:02d}-{name}"
        store.publish(store.begin(run_id), run.manifest.model_copy(update={"run_id": run_id}))
    attempts = [r.manifest.attempt for r in store.runs()[0] if (r.manifest.cell_id, r.manifest.session) == unit]
    assert sorted(attempts) == [0, 0, 1]  # the first has the name of a test's run, which says nothing of its session


WRITER = """
import sys
from pathlib import Path
from melt.store.store import Store, EVENTS
from melt.store.manifest import read_manifest
template = read_manifest(Path(sys.argv[2]))
store = Store(Path(sys.argv[1]))
for i in range(100_000):
    partial = store.begin(f"run{i}")
    (partial.folder / EVENTS).write_text("{}\\n" * 1000)
    store.publish(partial, template.model_copy(update={"run_id": f"run{i}"}))
    print(i, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.01, 0.02])
def test_kill_at_any_moment_leaves_only_whole_runs(tmp_path: Path, folder: Path, delay_s: float) -> None:
    template = a_run(folder) / MANIFEST
    out = tmp_path / "killed"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(out), str(template)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(5)]
    time.sleep(delay_s)
    os.kill(writer.pid, signal.SIGKILL)
    told += writer.stdout.read().splitlines()
    writer.stdout.close()
    writer.wait()
    published = {int(t) for t in told if t.strip()}
    runs, damaged = Store(out).runs()
    assert not damaged
    assert {int(r.manifest.run_id.removeprefix("run")) for r in runs} >= published
    Store(out).begin("after")
    assert len([p for p in out.iterdir() if p.name.startswith(".partial-")]) == 1
