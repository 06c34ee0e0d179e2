"""How melt ends where its surroundings give way: the reader of its output, the disk, folders, memory."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from melt.store.store import Store
from tests.support.cli import MELT, without_second_tries


def ended(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell's script in which ``"$@"`` is melt's whole command."""
    env = os.environ | environment
    words = without_second_tries(("run", "--device", "local", *environment.pop("WORDS", "").split()))
    return subprocess.run(
        ["bash", "-c", script, "bash", *MELT, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def words_for(model: Path) -> str:
    return (
        f"--model {model} --context 32 --gen 4 --sessions 2 --iterations 1 --threads 1 --set idle_s=0.1 --set name=pipe"
    )


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_leaves_stops_nothing(reader: str, tiny_model: Path, tmp_path: Path) -> None:
    done = ended(f'"$@" 2>&1 | {reader}; exit ${{PIPESTATUS[0]}}', tmp_path, WORDS=words_for(tiny_model))
    assert done.returncode == 0
    assert len(Store(tmp_path / "results").runs()[0]) == 2
    assert (tmp_path / "reports/pipe/index.html").exists()


def test_a_reader_that_leaves_hides_no_failure(tiny_model: Path, tmp_path: Path) -> None:
    script = '"$@" --set "timeouts={load_s: 0.001}" | true; exit ${PIPESTATUS[0]}'
    assert ended(script, tmp_path, WORDS=words_for(tiny_model)).returncode == 1


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('"$@" >/dev/full', "No space left on device"),
        ('mkdir gone && cd gone && rmdir ../gone && "$@"', "No such file or directory"),
        ('TMPDIR=/nowhere "$@"', ""),
        (f'"$@" --results {"r" * 300}', "File name too long"),
    ],
    ids=["a full output", "a removed working folder", "no temporary folder", "a long name"],
)
def test_what_the_machine_refuses_is_told_in_a_line(script: str, told: str, tiny_model: Path, tmp_path: Path) -> None:
    done = ended(script, tmp_path, WORDS=words_for(tiny_model))
    assert "Traceback" not in done.stderr
    assert told in done.stderr
    assert (done.returncode == 0) == (not told)


def test_little_memory_is_told_in_a_line(tiny_model: Path, tmp_path: Path) -> None:
    words = without_second_tries(("run", "--device", "local", *words_for(tiny_model).split()))
    limit = 600 * 2**20
    done = subprocess.run(
        [*MELT, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert "Traceback" not in done.stderr
