"""Which jobs are taken: job.json decides, for the host and for every runner, each asked about all of them at once."""

import contextlib
import copy
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from melt.runner import job_schema
from melt.spec.cell import AXES
from melt.spec.job import Job
from tests.runner.conftest import Program
from tests.runner.running import job

SCHEMA = job_schema()
FIELDS = {
    **{n: s for n, s in SCHEMA["properties"].items() if n not in ("protocol", "workload")},
    **{f"workload.{n}": s for n, s in SCHEMA["properties"]["workload"]["properties"].items()},
}
REFERENCE = Path(__file__).parents[1] / "data/reference-1"
GOOD = job("m.gguf")

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"protocol": 2}, "protocol", "2"),
    ({"protocol": None}, "protocol", "1"),
    ({"threads": 0}, "bad_job", "threads: must be an integer from 1 to 1024"),
    ({"threads": True}, "bad_job", "threads"),
    ({"iterations": "3"}, "bad_job", "iterations"),
    ({"flash_attn": "yes"}, "bad_job", "flash_attn: must be one of auto, on, off"),
    ({"type_k": "q9"}, "bad_job", "type_k: must be one of f32, f16"),
    ({"accelerator": "tpu"}, "bad_job", "accelerator"),
    ({"extra_buffers": 1}, "bad_job", "extra_buffers: must be true or false"),
    ({"load_mode": "direct"}, "bad_job", "load_mode: must be one of mmap, read"),
    ({"mmap": False}, "bad_job", "mmap: must be true"),  # of hosts from before load_mode, which never said otherwise
    ({"cpu_mask": 0}, "bad_job", "cpu_mask"),
    ({"device": 3}, "bad_job", "device: must be a string or null"),
    ({"model": "a\0b"}, "bad_job", "model"),
    ({"nonsense": 1}, "bad_job", "nonsense: unknown key"),
    ({"workload": {"prompt_tokens": 0, "gen_tokens": 2}}, "bad_job", "workload.prompt_tokens"),
    ({"workload": {"gen_tokens": 2}}, "bad_job", "workload.prompt_tokens: missing"),
    ({"workload": {"prompt_tokens": 1, "gen_tokens": 2, "x": 1}}, "bad_job", "workload.x: unknown key"),
    ({"workload": {"prompt_tokens": 1, "gen_tokens": 2, "kind": "sustained"}}, "bad_job", "workload.seconds"),
    ({"workload": 3}, "bad_job", "workload: must be an object"),
]
NO_JOBS = ["", "{", "[]", "3", "[" * 20_000, '{"protocol": 1}', '{"protocol": 1, "workload": []}']


def verdicts(words: list[str], folder: Path, jobs: Sequence[str | bytes]) -> list[tuple[str, str]]:
    """Of each job the kind of error and its message, both empty where it is taken."""
    lines = [text.encode() if isinstance(text, str) else text for text in jobs]
    (folder / "jobs").write_bytes(b"".join(line + b"\n" for line in lines))
    done = subprocess.run([*words, "check-jobs", str(folder / "jobs")], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [(v["kind"], v["message"]) for v in map(json.loads, done.stdout.splitlines())]


@pytest.mark.every_flavour
def test_a_bad_job_is_refused_by_the_name_of_its_field(program: list[str], tmp_path: Path) -> None:
    jobs = [json.dumps({**GOOD, **changes}) for changes, _, _ in BAD]
    for (changes, kind, said), verdict in zip(BAD, verdicts(program, tmp_path, jobs), strict=True):
        assert verdict[0] == kind, changes
        assert said in verdict[1], changes
        if changes != {"protocol": None}:  # the host fills in its own
            with pytest.raises(ValidationError):
                Job.model_validate({**GOOD, **changes})


@pytest.mark.every_flavour
def test_what_is_no_job_is_refused(program: list[str], tmp_path: Path) -> None:
    assert all(kind in ("bad_job", "protocol") for kind, _ in verdicts(program, tmp_path, NO_JOBS))


TEXT = json.dumps(GOOD)
NO_TEXTS: dict[str, str | bytes] = {
    "a key twice": TEXT.replace('"threads":', '"threads": 1, "threads":'),
    "a key of the workload twice": TEXT.replace('"gen_tokens":', '"gen_tokens": 9, "gen_tokens":'),
    "UTF-16": TEXT.encode("utf-16-le"),
    "UTF-16 with its mark": TEXT.encode("utf-16"),
    "UTF-32": TEXT.encode("utf-32-le"),
    "a byte order mark": TEXT.encode("utf-8-sig"),
    "Latin-1": TEXT.replace("m.gguf", "é.gguf").encode("latin-1"),
    "an overlong form": TEXT.encode().replace(b"m.gguf", b"\xc0\xaf.gguf"),
    "half a surrogate pair, encoded": TEXT.encode().replace(b"m.gguf", b"\xed\xa0\x80.gguf"),
    "beyond the last character": TEXT.encode().replace(b"m.gguf", b"\xf4\x90\x80\x80.gguf"),
    "half a surrogate pair": TEXT.replace("m.gguf", "\\ud800.gguf"),
    "the other half in a name": TEXT.replace('"threads":', '"\\udc00": 1, "threads":'),
    "half a surrogate pair in the protocol": TEXT.replace('"protocol": 1', '"protocol": "\\udfff"'),
    "no number": TEXT.replace('"iterations": 2', '"iterations": NaN'),
    "infinite": TEXT.replace('"seconds": null', '"seconds": Infinity'),
    "a control character": TEXT.replace("m.gguf", "\x01.gguf"),
}
TEXTS = {
    "other scripts": TEXT.replace("m.gguf", "模型é.gguf"),
    "a whole surrogate pair": TEXT.replace("m.gguf", "\\ud83d\\ude00.gguf"),
    "a four-byte character": TEXT.replace("m.gguf", "😀.gguf"),
    "blanks": f" \t{TEXT} \r",
}


@pytest.mark.every_flavour
def test_all_agree_on_what_is_text_and_what_is_json(program: list[str], tmp_path: Path) -> None:
    refused = dict(zip(NO_TEXTS, verdicts(program, tmp_path, list(NO_TEXTS.values())), strict=True))
    assert {name: kind for name, (kind, _) in refused.items() if kind != "bad_job"} == {}
    taken = dict(zip(TEXTS, verdicts(program, tmp_path, list(TEXTS.values())), strict=True))
    assert taken == dict.fromkeys(TEXTS, ("", ""))
    assert [_is_taken(text) for text in TEXTS.values()] == [True] * len(TEXTS)


def test_a_job_in_another_encoding_is_no_traceback(program_of: Program, tmp_path: Path) -> None:
    for text in NO_TEXTS.values():
        (tmp_path / "job.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        done = subprocess.run(
            [*program_of("python"), "run", str(tmp_path / "job.json")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert '"kind":"bad_job"' in done.stdout


def edges(of_field: dict[str, Any]) -> Iterator[object]:
    """Values at the ends of a field's range and just beyond, every choice, and one of each other type."""
    yield from (None, True, "x", 1, 1.5, -1, [], {}, *of_field.get("enum", ()))
    for limit in ("minimum", "maximum", "exclusiveMinimum"):
        if limit in of_field:
            yield from (of_field[limit] + step for step in (-1, 0, 1))


@pytest.mark.every_flavour
def test_all_agree_at_every_edge_of_every_field(program: list[str], tmp_path: Path) -> None:
    jobs = []
    for name, of_field in FIELDS.items():
        for value in edges(of_field):
            changed = copy.deepcopy(GOOD)
            (changed["workload"] if "." in name else changed)[name.rpartition(".")[2]] = value
            jobs.append(json.dumps(changed))
    found = [not kind for kind, _ in verdicts(program, tmp_path, jobs)]
    by_host = [_is_taken(text) for text in jobs]
    assert [text for text, a, b in zip(jobs, found, by_host, strict=True) if a != b] == []
    assert 50 < sum(found) < len(found) - 100


def _is_taken(text: str) -> bool:
    try:
        Job.model_validate_json(text)
    except ValidationError:
        return False
    return True


@pytest.mark.every_flavour
def test_recorded_jobs_are_still_taken(program: list[str], tmp_path: Path) -> None:
    manifests = [json.loads(path.read_bytes()) for path in sorted(REFERENCE.glob("*/manifest.json"))]
    jobs = [m["job"] for m in manifests if m["job"]]
    assert len(jobs) > 50
    assert {kind for kind, _ in verdicts(program, tmp_path, [json.dumps(j) for j in jobs])} == {""}
    for recorded in jobs:
        told = {name: value for name, value in recorded.items() if name != "mmap"}  # load_mode says it now
        assert Job.model_validate(recorded).model_dump(mode="json") == told


def test_a_runner_from_before_a_field_is_told_of_it_only_where_it_is_set() -> None:
    known = {"load_mode", "cpu_fallback", "mmap"} & GOOD.keys()
    assert known == set()
    assert Job.model_validate({**GOOD, "load_mode": "read"}).model_dump()["load_mode"] == "read"


@pytest.mark.parametrize("axis", [a for a in AXES.values() if a.job], ids=lambda a: a.name)
def test_whatever_a_cell_may_ask_a_job_may_tell(axis: Any) -> None:
    of_field = FIELDS[axis.job]
    assert axis.of_some_engines == of_field.get("ofSomeEngines", False)
    assert set(axis.choices) <= set(of_field.get("enum", ()))
    if axis.whole_numbers:
        low, high = axis.whole_numbers
        assert of_field["minimum"] <= low
        assert high <= of_field["maximum"]
    elif "maximum" in axis.schema:
        assert axis.schema["maximum"] <= of_field["maximum"]
        assert of_field["exclusiveMinimum"] <= axis.schema["minimum"]  # where a plan needs it, it is above that


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    ),
    field=st.sampled_from(["protocol", "workload", *FIELDS]),
)
def test_no_value_in_a_job_makes_the_parser_raise_anything_else(runner_path: None, data: Any, field: str) -> None:
    from channel import JobError  # type: ignore[import-not-found,unused-ignore]
    from job import parse_job  # type: ignore[import-not-found,unused-ignore]

    given_job = copy.deepcopy(GOOD)
    (given_job["workload"] if "." in field else given_job)[field.rpartition(".")[2]] = data
    with contextlib.suppress(JobError):
        parse_job(given_job)
