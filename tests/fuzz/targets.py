"""What reads what is not melt's own: each with whole inputs to start from, and how one is read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from melt.backends.llama_bench_rows import read_row
from melt.drivers.ios.jetsam import find_jetsam
from melt.drivers.profiles import read_profile, shipped_folder
from melt.drivers.shell_inventory import parse_answer
from melt.exchange.llama_bench_import import pair, read_rows
from melt.models.formats import inspect
from melt.models.gguf.synth import synthesise
from melt.models.onnx.synth import synthesise_onnx
from melt.models.shapes.zoo import find_shape, scaled_down
from melt.spec.events import parse_event
from melt.spec.plan import load_plan
from melt.spec.profile import DeviceProfile, Sensors
from melt.store.manifest import Manifest
from melt.store.store import Store
from melt.telemetry import android, android_facts, ios, linux
from melt.telemetry.android_properties import PROPERTIES
from melt.telemetry.kinds.android_battery import BATTERY_SERVICE
from melt.telemetry.kinds.android_thermal import THERMAL_SERVICE
from melt.telemetry.kinds.power_rails import read_rails
from melt.telemetry.limits import LimitsWatch
from melt.telemetry.series import read
from melt.telemetry.source import Inventory, InventoryEntry
from tests.doubles.perfetto_trace import rail_trace
from tests.telemetry.replay import inventory_of, load_tree

DATA = Path(__file__).parents[1] / "data"
REPOSITORY = Path(__file__).parents[2]
PHONES, BOARDS = (
    ("pixel-8", "galaxy-s23", "oneplus", "xiaomi"),
    ("jetson-orin-nano", "jetson-xavier-nx", "laptop-xps15-9560"),
)


@dataclass(frozen=True)
class Target:
    """``read`` takes the bytes; raises MeltError for what it refuses, and nothing else."""

    seeds: Sequence[bytes]
    read: Callable[[bytes], object]


def _files(folder: Path, pattern: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted(folder.glob(pattern))]
    assert found, f"{folder}/{pattern}"
    return found


def _file(folder: Path, name: str, seeds: Sequence[bytes], reader: Callable[[Path], object]) -> Target:
    path = folder / name

    def read_file(data: bytes) -> object:
        path.write_bytes(data)
        return reader(path)

    return Target(seeds, read_file)


def _each_line(reader: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: [reader(line) for line in data.decode(errors="replace").splitlines()]


def _gguf(folder: Path) -> Target:
    heads = []
    for shape in ("smollm2-135m", "mamba-130m", "falcon-h1-0.5b"):
        path = folder / f"{shape}.gguf"
        synthesise(scaled_down(find_shape(shape)), "Q8_0", path)
        heads.append(path.read_bytes()[:60_000])
    return _file(folder, "a.gguf", heads, inspect)


def _onnx(folder: Path) -> Target:
    whole = folder / "model"
    synthesise_onnx(scaled_down(find_shape("falcon-h1-0.5b")), "int4", whole)
    return _file(whole, "model.onnx", [(whole / "model.onnx").read_bytes()], lambda path: inspect(path.parent))


def _onnx_config(folder: Path) -> Target:
    whole = folder / "model"
    synthesise_onnx(scaled_down(find_shape("falcon-h1-0.5b")), "int4", whole)
    config = (whole / "genai_config.json").read_bytes()
    return _file(whole, "genai_config.json", [config], lambda path: inspect(path.parent))


def _manifest(folder: Path) -> Target:
    run = folder / "results" / "a-run"
    run.mkdir(parents=True)
    seeds = _files(DATA / "schema-1", "*/manifest.json") + _files(DATA / "reference-1", "*/manifest.json")[:4]
    return _file(run, "manifest.json", seeds, lambda path: Store(path.parents[1]).runs())


def _traces() -> list[bytes]:
    samples = [(t, {0: t * 3, 1: t * 5}) for t in range(1_000_000, 1_000_900, 30)]
    return [rail_trace({0: ("S1M_VDD_MIF", "MIF"), 1: ("S2M_VDD_CPUCL2", "CPU(BIG)")}, samples), rail_trace({}, [])]


def _of_phone(entry: str, pattern: str) -> Target:
    """One text of a phone's, beside all its others as they were."""
    seeds = [text for phone in PHONES for text in _some(DATA / "android" / phone, pattern)]
    others = inventory_of(load_tree("android/pixel-8")).entries

    def read_text(data: bytes) -> object:
        text = InventoryEntry(path=entry, text=data.decode(errors="replace"))
        inventory = Inventory(entries=(*(e for e in others if e.path != entry), text))
        return android.discover(inventory), android_facts.facts(inventory)

    return Target(seeds, read_text)


def _some(folder: Path, pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob(pattern))]


def _as_json(device: str) -> bytes:
    return json.dumps({k: v for k, v in load_tree(device).items() if isinstance(v, str)}, indent=0).encode()


def _tree(discover: Callable[[Inventory], object], facts: Callable[[Inventory], object]) -> Callable[[bytes], object]:
    """A machine's files, as far as what is damaged is still a table of texts."""

    def read_tree(data: bytes) -> object:
        try:
            table = json.loads(data)
        except (ValueError, RecursionError):
            return None
        texts = {str(k): v for k, v in table.items() if isinstance(v, str)} if isinstance(table, dict) else {}
        inventory = Inventory(entries=tuple(InventoryEntry(path=k, text=v) for k, v in texts.items()))
        return discover(inventory), facts(inventory)

    return read_tree


def _answer(device: str) -> bytes:
    rows = [f"word< {path}\n{text}\nword> 0" for path, text in load_tree(device).items() if isinstance(text, str)]
    return ("\n".join([*rows, "word."]) + "\n").encode()


def _read_answer(data: bytes) -> object:
    try:
        return linux.discover(parse_answer(data.decode(errors="replace"), "word"))
    except ValueError:  # by which its reader knows that the shell ended before
        return None


_IPHONE = b"""{"Voltage": 3912, "InstantAmperage": -312, "Temperature": 2890, "CurrentCapacity": 80,
 "ExternalConnected": false, "IsCharging": false, "UpdateTime": 1700000000, "Serial": "F0", "AdapterDetails": {}}"""
_JETSAM = b"""{"bug_type": "298"}
{"memoryStatus": {"pageSize": 16384}, "processes": [{"pid": 321, "rpages": 9000, "reason": "per-process-limit"}]}"""


def _read_iphone(data: bytes) -> object:
    try:
        battery = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return ios.discover(battery, 6, 1.0, Sensors()) if isinstance(battery, dict) else None


def _telemetry() -> Target:
    run = sorted((DATA / "reference-1").glob("*/manifest.json"))[0]
    found = Manifest.model_validate_json(run.read_text()).telemetry
    rows = [
        {"t_ns": 1000 * n, "t_end_ns": 1000 * n + 10, "probe": source.probe, "raw": str(3.5 * n)}
        for n in range(4)
        for source in found.sources
    ]
    seed = "\n".join(json.dumps(row, separators=(",", ":")) for row in rows).encode()
    limits = DeviceProfile(name="a", driver="local").limits

    def read_lines(data: bytes) -> object:
        text = data.decode(errors="replace")
        LimitsWatch(limits, found).hear(text.splitlines())
        return read(found, text)

    return Target([seed], read_lines)


# By name; each is given a folder for the files of those that read files.
TARGETS: Mapping[str, Callable[[Path], Target]] = {
    "gguf": lambda folder: _gguf(folder),
    "onnx": lambda folder: _onnx(folder),
    "onnx config": lambda folder: _onnx_config(folder),
    "manifest": lambda folder: _manifest(folder),
    "events": lambda _: Target(_files(DATA / "events", "*.jsonl"), _each_line(parse_event)),
    "plan": lambda folder: _file(folder, "plan.yaml", _files(REPOSITORY / "plans", "*.yaml"), load_plan),
    "profile": lambda folder: _file(folder, "a.yaml", _files(shipped_folder(), "*.yaml"), read_profile),
    "perfetto": lambda _: Target(_traces(), read_rails),
    "getprop": lambda _: _of_phone(PROPERTIES, "getprop.txt"),
    "dumpsys battery": lambda _: _of_phone(BATTERY_SERVICE, "dumpsys-battery*.txt"),
    "dumpsys thermalservice": lambda _: _of_phone(THERMAL_SERVICE, "dumpsys-thermalservice*.txt"),
    "sysfs of a phone": lambda _: Target(
        [_as_json(f"android/{p}") for p in PHONES], _tree(android.discover, android_facts.facts)
    ),
    "sysfs": lambda _: Target([_as_json(board) for board in BOARDS], _tree(linux.discover, linux.facts)),
    "a shell's answer": lambda _: Target([_answer(board) for board in BOARDS], _read_answer),
    "battery of an iPhone": lambda _: Target([_IPHONE], _read_iphone),
    "a jetsam report": lambda _: Target([_JETSAM], lambda data: find_jetsam([data], 321)),
    "llama-bench's rows": lambda _: Target(_files(DATA / "llama-bench", "*.jsonl"), _each_line(read_row)),
    "llama-bench's file": lambda folder: _file(
        folder, "rows.jsonl", _files(DATA / "llama-bench", "*.jsonl"), lambda path: pair(read_rows(path))
    ),
    "telemetry": lambda _: _telemetry(),
}
