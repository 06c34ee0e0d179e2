"""From raw lines to series: right, quick and never raising."""

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melt.telemetry.registry import parse, registry
from melt.telemetry.series import Series, read, series
from melt.telemetry.source import Discovery, Source


def source(**changes: Any) -> Source:
    given: dict[str, Any] = {"name": "s", "probe": "p", "parser": "number", "quantity": "power_w"}
    return Source.model_validate({**given, "sensor": "x", "site": "system", "sign": "load_positive", **changes})


def line(t: int, raw: str, probe: str = "p") -> str:
    return json.dumps({"t_ns": t, "t_end_ns": t + 2, "probe": probe, "raw": raw}, separators=(",", ":"))


def one(lines: list[str], **changes: Any) -> tuple[list[int], list[float]]:
    found = series(Discovery(sources=(source(**changes),)), lines)
    return ([], []) if not found else (found["s"].t_ns.tolist(), found["s"].value.tolist())


def test_stamp_is_the_middle_of_the_reading() -> None:
    assert one([line(10, "3"), line(20, "4.5")], scale=2.0) == ([11, 21], [6.0, 9.0])


@pytest.mark.parametrize(
    ("parser", "key", "raw", "value"),
    [
        ("number", "", " 42 \n", 42.0),
        ("number", "", "", None),
        ("number", "", "inf", None),
        ("number", "", "1e999", None),
        ("millidegrees", "", "45968", 45968.0),
        ("millidegrees", "", "-256000", None),
        ("field", "1", "100 25 3", 25.0),
        ("field", "7", "100 25 3", None),
        ("named", "VmHWM", "VmSize:\t 9 kB\nVmHWM:\t  123 kB", 123.0),
        ("named", "pswpin", "pswpin 5\npswpout 6", 5.0),
        ("named", "none", "pswpin 5", None),
        ("busy_ticks", "", "cpu  10 1 5 100 7 2 3 4 50 0", 25.0),
        ("busy_ticks", "", "cpu0 1 2", None),
        ("process_ticks", "", "7 (a) b) c) S 1 7 7 0 -1 4 1 0 0 0 25 5 0 0 20 0", 30.0),
        ("charging_status", "", "Discharging", 0.0),
        ("charging_status", "", "Not charging", 1.0),
        ("charging_status", "", "Unknown", None),
        ("throttled_bits", "", "throttled=0x50004", 1.0),
        ("throttled_bits", "", "50000", 0.0),
        ("nonesuch", "", "1", None),
    ],
)
def test_parsers(parser: str, key: str, raw: str, value: float | None) -> None:
    assert parse(source(parser=parser, key=key), raw) == value


@given(st.text(), st.sampled_from(sorted(registry().parsers)), st.sampled_from(["", "1", "VmHWM", "x"]))
def test_no_text_makes_a_parser_raise(raw: str, parser: str, key: str) -> None:
    if not (parser == "field" and not key.isdigit()):
        parse(source(parser=parser, key=key), raw)


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.builds(
                json.dumps,
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["p", "9"]),
                    lambda inner: st.dictionaries(
                        st.sampled_from(["t_ns", "t_end_ns", "probe", "raw", "error", "message"]), inner
                    ),
                    max_leaves=8,
                ),
            ),
        )
    )
)
def test_no_line_makes_it_raise(lines: list[str]) -> None:
    read(Discovery(sources=(source(),)), lines)


def test_lines_that_are_none_are_counted_and_passed_over() -> None:
    lines = [
        line(10, "1"),
        "garbage",
        '{"t_ns":1,"t_end_ns":2,"probe":"p","raw":"1',
        '{"t_ns":5,"t_end_ns":1,"probe":"p","raw":"1"}',
        '{"t_ns":-5,"t_end_ns":1,"probe":"p","raw":"1"}',
        '{"t_ns":99999999999999999999,"t_end_ns":99999999999999999999,"probe":"p","raw":"1"}',
        "[" * 100_000,
        '{"t_ns":true,"t_end_ns":1,"probe":"p","raw":"1"}',
        "",
        '{"t_ns": 30, "probe": "p", "raw": "2", "t_end_ns": 32}',
        '{"t_ns":40,"probe":"p","error":"EACCES","message":"no"}',
        line(50, "1", probe="of no source"),
    ]
    found = read(Discovery(sources=(source(),)), lines)
    assert found.series["s"].t_ns.tolist() == [11, 31]
    assert found.skipped_lines == 7
    assert [(f.probe, f.error) for f in found.failures] == [("p", "EACCES")]


def test_escapes_are_undone() -> None:
    assert one([line(10, "VmHWM:\t  7 kB\nVmRSS: 3 kB")], parser="named", key="VmRSS") == ([11], [3.0])
    assert one([line(10, "VmHWM:\t  7 kB\nVmRSS: 3 kB").replace(",", ", ")], parser="named", key="VmHWM")[1] == [7.0]


def test_clock_that_goes_back_is_put_in_order_and_a_stamp_is_there_once() -> None:
    lines = [line(30, "3"), line(10, "1"), line(20, "2"), line(20, "9")]
    assert one(lines) == ([11, 21, 31], [1.0, 9.0, 3.0])


def test_counter_that_wraps_goes_on() -> None:
    second = 10**9
    lines = [line(0, "90"), line(second, "95"), line(2 * second, "3"), line(3 * second, "10")]
    assert one(lines, quantity="energy_j", wrap_at=100.0)[1] == [90.0, 95.0, 103.0, 110.0]


@pytest.mark.parametrize("wrap_at", [None, 1e6])
def test_counter_that_starts_again_is_marked(wrap_at: float | None) -> None:
    lines = [line(0, "90"), line(10**9, "95"), line(2 * 10**9, "3"), line(3 * 10**9, "10")]
    found = series(Discovery(sources=(source(quantity="energy_j", wrap_at=wrap_at),)), lines)["s"]
    assert found.value.tolist() == [90.0, 95.0, 95.0, 102.0]
    assert found.breaks_ns == (2 * 10**9 + 1,)


@pytest.mark.parametrize(
    ("sign", "values"), [("load_positive", [-2, 3]), ("load_negative", [2, -3]), ("unsigned", [-2, 3])]
)
def test_signs(sign: str, values: list[float]) -> None:
    assert one([line(0, "-2"), line(10, "3")], sign=sign)[1] == values


@pytest.mark.parametrize(("read", "load"), [((-2, -3), [2, 3]), ((2, 3), [2, 3]), ((-2, -3, 1), [2, 3, -1])])
def test_an_unsigned_load_is_what_most_of_a_run_says(read: tuple[int, ...], load: list[float]) -> None:
    assert one([line(10 * i, str(v)) for i, v in enumerate(read)], sign="unsigned")[1] == load


def test_rate_is_the_rise_a_second() -> None:
    lines = [line(0, "100"), line(10**9, "150"), line(3 * 10**9, "350")]
    assert one(lines, quantity="utilisation", rate=True, scale=0.01) == ([5 * 10**8 + 1, 2 * 10**9 + 1], [0.5, 1.0])


def test_product_with_another_source() -> None:
    volts = source(name="v", probe="v", quantity="voltage_v", scale=1e-3)
    amps = source(times="v", scale=1e-3)
    lines = [line(0, "5000", "v"), line(10, "2000"), line(20, "4000", "v")]
    assert series(Discovery(sources=(amps, volts)), lines)["s"].value.tolist() == [pytest.approx(9.0)]
    assert series(Discovery(sources=(amps, volts)), lines[1:2]) == {}


def test_charge_that_went_at_a_voltage_is_energy() -> None:
    volts = source(name="v", probe="v", quantity="voltage_v")
    charge = source(times="v", quantity="energy_j", sign="load_negative")
    lines = [line(0, "10", "v"), line(0, "100"), line(20, "99"), line(40, "97"), line(40, "8", "v")]
    assert series(Discovery(sources=(charge, volts)), lines)["s"].value.tolist() == pytest.approx(
        [0.0, 9.5, 9.5 + 17.0]
    )


def test_two_sources_share_a_probe() -> None:
    sources = tuple(source(name=k, parser="named", key=k) for k in ("a", "b"))
    found = series(Discovery(sources=sources), [line(0, "a 1\nb 2")])
    assert {n: s.value.tolist() for n, s in found.items()} == {"a": [1.0], "b": [2.0]}


@pytest.mark.parametrize(
    ("window", "values"),
    [
        ((0, 5), [1]),
        ((12, 18), [1, 2]),
        ((10, 30), [1, 2, 3]),
        ((20, 25), [1, 2, 3]),
        ((40, 50), [3, 4]),
        ((31, 32), [3, 4]),
    ],
)
def test_a_state_that_is_seldom_read_is_one_of_its_neighbours(window: tuple[int, int], values: list[float]) -> None:
    one = Series(np.array([10, 20, 30, 40]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert one.states(*window).tolist() == values


def test_large_record_is_read_at_speed() -> None:
    sources = tuple(source(name=f"s{i}", probe=f"p{i}") for i in range(8))
    rows = [line(t * 10**8, str(t * 7919 % 4_003), f"p{i}") for t in range(5_000) for i in range(8)]
    text = "\n".join(rows)
    taken_s = []
    for _ in range(3):
        started = time.process_time()
        found = series(Discovery(sources=sources), text)
        taken_s.append(time.process_time() - started)
    assert sum(len(s.t_ns) for s in found.values()) == len(rows)
    assert all(bool(np.isfinite(s.value).all()) for s in found.values())
    assert min(taken_s) / len(rows) < 8e-6  # a loose bound for a busy machine
