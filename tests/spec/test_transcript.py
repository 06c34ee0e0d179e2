"""One sorter of what a runner said."""

from melt.spec.events import parse_event
from melt.spec.transcript import transcript_of

HELLO = '{"event":"hello","protocol":1,"runner":"%s","runner_version":"1","engine":"e","engine_version":"1"}'


def test_of_what_is_said_once_the_first_counts_and_the_last_end() -> None:
    lines = [HELLO % "first", HELLO % "second", '{"event":"done","status":"error"}', '{"event":"done","status":"ok"}']
    said = transcript_of(parse_event(line) for line in lines)
    assert said.hello is not None
    assert said.hello.runner == "first"
    assert said.done is not None
    assert said.done.status == "ok"


def test_a_flood_of_lines_that_are_no_events_is_counted_and_not_kept() -> None:
    said = transcript_of(parse_event("x" * 1000) for _ in range(10_000))
    assert said.n_unknown_lines == 10_000
    assert len(said.unknown_lines) == 3
    assert said.spoken_warnings[0].startswith("no events in 10,000 lines of the runner")
    assert len(said.spoken_warnings[0]) < 1000


def test_timed_iterations_are_counted_however_they_are_told() -> None:
    stamps = '"prefill":{"tokens":1,"t_start_ns":1,"t_end_ns":2},"token_t_ns":[3]'
    passes = [f'{{"event":"iteration","index":0,"warmup":{w},{stamps}}}' for w in ("true", "false", "false")]
    assert transcript_of(map(parse_event, passes)).n_timed == 2
    repeated = '{"event":"repetitions","phase":"decode","tokens":1,"depth":0,"took_ns":[1,2,3]}'
    assert transcript_of([parse_event(repeated)]).n_timed == 3
