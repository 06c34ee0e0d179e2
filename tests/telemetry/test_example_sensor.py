"""A kind of sensor of somebody else's: installed as a package of its own, found by its entry point, and measured by."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import melt
from tests.doubles.paced.fixture import paced
from tests.support.packages import install, melt_with, python_with
from tests.telemetry.replay import load_tree

__all__ = ["paced"]
VOLTS, AMPERES = 5.0, 1.5
PACES = ("--backend", "paced", "--set", "options={base_ms: 1000, decode_ms: 5}")
RUN = ("--context", "64", "--gen", "201", "--sessions", "1", "--iterations", "2", "--no-report", *PACES)
ENERGY = """
import json, sys, melt
found = melt.load(sys.argv[1])
rails = found.rails.set_index("source")
run = found.runs.iloc[0][["energy_decode_j", "tpot_s"]]
print(json.dumps({**run, "counted": list(rails.index[rails.counts_in_total])}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("example_sensor", tmp_path_factory.mktemp("package"))


@pytest.fixture
def metered(tmp_path: Path) -> Path:
    """A laptop with counters of its own and a meter in its supply; the meter's file."""
    root = tmp_path / "tree"
    for path, text in load_tree("laptop-xps15-9560").items():
        if path.startswith("/") and isinstance(text, str):
            file = root / path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    meter = root / "run/usb-meter/desk/now"
    meter.parent.mkdir(parents=True)
    meter.write_text(f"{VOLTS:.3f}V {AMPERES:.3f}A\n")
    profile = tmp_path / "profiles/local.yaml"
    profile.parent.mkdir()
    profile.write_text(f"name: local\ndriver: local\nsensors:\n  root: {root}\n  period_ms: 20\n")
    return meter


@contextmanager
def _alive(meter: Path) -> Iterator[None]:
    """Lets the last digit of the meter flicker, as a real one's does: one that never moves is taken for stuck."""
    over = threading.Event()

    def flicker() -> None:
        for n in count():
            with meter.open("r+") as file:  # in its place: the sampler keeps it open
                file.write(f"{VOLTS:.3f}V {AMPERES + (n % 3 - 1) / 1000:.3f}A\n")
            if over.wait(0.01):
                return

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_energy_of_a_run_is_by_its_meter(
    installed: Path, metered: Path, tmp_path: Path, tiny_model: Path, paced: Path
) -> None:
    results = str(tmp_path / "results")
    with _alive(metered):
        done = melt_with(installed, "run", "--device", "local", "--model", str(tiny_model), *RUN, "--results", results)
    assert done.returncode == 0, done.stderr
    found = json.loads(python_with(installed, "-c", ENERGY, results).stdout)
    assert found["counted"] == ["meter:desk"]  # and not the processor's counters inside it
    assert found["energy_decode_j"] == pytest.approx(VOLTS * AMPERES * 200 * found["tpot_s"], rel=0.02)
    # Where the package is not installed the raw text is kept, and no figure is made up.
    rails = melt.load(results).rails.set_index("source")
    assert "'usb_meter_w' is of a package that is not installed" in str(rails.loc["meter:desk", "energy_decode_reason"])
    assert "rapl:package-0" in rails.index


def test_what_it_cannot_read_is_absent_with_its_reason(installed: Path, metered: Path) -> None:
    assert "sensor meter:desk" in melt_with(installed, "doctor", "--device", "local").stdout
    metered.write_text("no meter\n")
    told = melt_with(installed, "devices", "show", "local").stdout
    assert "absent: meter:desk: its content is not understood" in told


def test_without_the_package_nobody_looks_for_it(metered: Path, tmp_path: Path) -> None:
    assert "meter:desk" not in melt_with(tmp_path, "devices", "show", "local").stdout


def test_the_kind_is_as_short_as_the_docs_say() -> None:
    lines = (Path(__file__).parents[1] / "example_sensor/melt_usb_meter/__init__.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 50
