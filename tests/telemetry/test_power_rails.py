"""Power rails of Perfetto traces, encoded by Google's own protobuf classes."""

from hypothesis import given
from hypothesis import strategies as st

from melt.spec.profile import Sensors
from melt.telemetry.android import discover
from melt.telemetry.kinds.power_rails import Rail, RailSample, read_rails
from tests.doubles.perfetto_trace import rail_trace
from tests.telemetry.test_android import inventory

RAILS = {0: ("S2M_VDD_CPUCL2", "CPU(BIG)"), 3: ("S2S_VDD_G3D", "GPU"), 9: ("VSYS_PWR_MODEM", "Modem")}


def test_a_trace_gives_rails_and_samples() -> None:
    samples = [(1000, {0: 5_000_000, 3: 7, 9: 2**40}), (1250, {0: 5_100_000, 3: 9})]
    rails, found = read_rails(rail_trace(RAILS, samples))
    assert rails == [
        Rail(0, "S2M_VDD_CPUCL2", "CPU(BIG)"),
        Rail(3, "S2S_VDD_G3D", "GPU"),
        Rail(9, "VSYS_PWR_MODEM", "Modem"),
    ]
    assert found == [
        RailSample(0, 1_000_000_000, 5_000_000),
        RailSample(3, 1_000_000_000, 7),
        RailSample(9, 1_000_000_000, 2**40),
        RailSample(0, 1_250_000_000, 5_100_000),
        RailSample(3, 1_250_000_000, 9),
    ]


def test_a_repeated_stamp_is_no_new_sample() -> None:
    trace = rail_trace(RAILS, [(1000, {0: 5}), (1000, {0: 5}), (1250, {0: 6})])
    assert [s.t_ns for s in read_rails(trace)[1]] == [1_000_000_000, 1_250_000_000]


@given(st.integers(0, 400))
def test_a_trace_that_is_cut_off_keeps_what_was_whole(at: int) -> None:
    trace = rail_trace(RAILS, [(1000 + 250 * i, {0: i, 3: 2 * i}) for i in range(8)])
    rails, samples = read_rails(trace)
    kept_rails, kept = read_rails(trace[:at])
    assert kept == samples[: len(kept)]
    assert kept_rails == rails[: len(kept_rails)]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    read_rails(data)


def test_rails_that_compute_make_the_total_and_no_joule_counts_twice() -> None:
    compute = ("S2M_VDD_CPUCL2", "S4M_VDD_CPUCL0", "S2S_VDD_G3D", "S8S_VDD_G3D_L2", "S5S_VDDQ_MEM", "S10S_VDD2L")
    others = ("L21S_VDD2L_MEM", "VSYS_PWR_MODEM", "VSYS_PWR_DISPLAY", "S6M_LLDO1", "S1S_VDD_CAM")
    rails = [Rail(i, name, "") for i, name in enumerate((*compute, *others))]
    found = discover(inventory("pixel-8"), Sensors(), rails)
    total = {s.rail for s in found.sources if s.counts_in_total}
    assert total == set(compute)
    assert len([s for s in found.sources if s.name.startswith("rail:")]) == len(rails)
    without = discover(inventory("pixel-8"), Sensors(disable=("rail:*",)), rails)
    assert [s.name for s in without.sources if s.counts_in_total] == ["battery:battery:power"]


def test_a_rails_name_is_text_and_short() -> None:
    rails, _ = read_rails(rail_trace({0: ("\x1b[31m" + "x" * 500, "")}, [(1, {0: 1})]))
    assert rails[0].name.startswith("[31mxxx")
    assert len(rails[0].name) == 64


def test_an_absurd_index_is_left_out() -> None:
    rails, samples = read_rails(rail_trace({2**31: ("x", "")}, [(1, {2**31: 1})]))
    assert (rails, samples) == ([], [])
