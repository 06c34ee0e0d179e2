"""Device output is untrusted: every line becomes an event or an explained unknown line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.spec.events import MAX_LINE_CHARS, Done, Hello, Iteration, ModelLoaded, UnknownLine, parse_event

RECORDED = Path(__file__).parents[1] / "data" / "events" / "smollm2-135m-2-cores.jsonl"


def test_a_recorded_run_is_understood_line_by_line() -> None:
    events = [parse_event(line) for line in RECORDED.read_text().splitlines()]
    assert [type(e) for e in events] == [Hello, ModelLoaded, Iteration, Iteration, Iteration, Done]
    loaded = events[1]
    assert isinstance(loaded, ModelLoaded)
    assert {b.kind for b in loaded.buffers} == {"weights", "kv", "compute", "output"}
    timed = [e for e in events if isinstance(e, Iteration) and not e.warmup]
    assert [len(e.token_t_ns) for e in timed] == [16, 16]
    assert timed[0].tokens == timed[1].tokens


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{}",
        "ggml: loading",
        '{"event": "nonsense"}',
        '{"event": "done", "status": "maybe"}',
        '{"event": "iteration", "index": -1}',
        '{"event": "iteration", "index": true, "warmup": false, "prefill": {}, "token_t_ns": []}',
        json.dumps({"event": "error", "kind": "x", "message": "y" * 200_000}),
        '{"event": "done", "status": "ok"',
        "[" * 100_000,
        '{"event": "model", "t_start_ns": 1e400, "t_end_ns": 2}',
        '{"event": "model", "t_start_ns": 99999999999999999999999, "t_end_ns": 2}',
        " " * (MAX_LINE_CHARS + 1),
    ],
)
def test_what_is_no_event_is_kept_with_a_reason(line: str) -> None:
    unknown = parse_event(line)
    assert isinstance(unknown, UnknownLine)
    assert unknown.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.text())
def test_no_text_makes_it_raise(line: str) -> None:
    parse_event(line)


@given(
    st.sampled_from([json.loads(line) for line in RECORDED.read_text().splitlines()]),
    st.dictionaries(
        st.sampled_from(
            ["event", "protocol", "prefill", "token_t_ns", "memory", "buffers", "clock", "status", "index"]
        ),
        json_values,
        min_size=1,
    ),
)
def test_no_change_to_a_real_event_makes_it_raise(event: dict[str, object], changes: dict[str, object]) -> None:
    parse_event(json.dumps(event | changes))


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_unknown_keys_of_a_newer_runner_are_ignored(extra: dict[str, object]) -> None:
    line = json.dumps({**extra, "event": "done", "status": "ok"})
    assert parse_event(line) == Done(status="ok")
