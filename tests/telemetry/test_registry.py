"""Kinds of sensors by entry point: melt's own are all there, and one that is broken is an absent sensor."""

import json
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points

import pytest

from melt.errors import MeltError
from melt.spec.profile import Sensors
from melt.telemetry import kinds, linux
from melt.telemetry import registry as module
from melt.telemetry.discovery import kinds_for
from melt.telemetry.kinds.base import Findings, Precedence, SensorKind
from melt.telemetry.registry import registry
from melt.telemetry.source import Absent, Discovery, Inventory, Probe, Source
from tests.telemetry.replay import inventory_of, load_tree

LAPTOP = "laptop-xps15-9560"
NO_KIND = object()


def gives(*sources: Source, **more: object) -> SensorKind:
    """A kind that finds these sources whatever is there."""

    def find(_inventory: Inventory, _sensors: Sensors, _earlier: Sequence[Source]) -> Findings:
        return Findings([Probe(name=s.probe, read="/x") for s in sources], list(sources))

    return SensorKind(find, Precedence.METER, **more)  # type: ignore[arg-type] # whatever a third party says


def meter(name: str = "mine", **changes: object) -> Source:
    return Source.model_validate({"name": name, "quantity": "power_w", "sensor": "x", "site": "wall", **changes})


def fails(*_given: object) -> Findings:
    raise RuntimeError("no such\nbus\x1b[31m")


ITS_PARSER_IS_TAKEN = gives(meter(), parsers={"number": lambda raw, key: 1.0})
IT_RAISES = SensorKind(fails, Precedence.METER)
IT_ENDS = SensorKind(lambda *_: sys.exit(0), Precedence.METER)
IT_FINDS_JUNK = SensorKind(lambda *_: "a meter", Precedence.METER)  # type: ignore[arg-type]
ITS_GLOBS_ARE_ONE = gives(meter(), globs="/sys/*")
ITS_PRECEDENCE_IS_NONE = SensorKind(fails, "first")  # type: ignore[arg-type]
ITS_SOURCE_IS_TAKEN = gives(meter("process:rss"))
ITS_SOURCES_SHARE_A_NAME = gives(meter(), meter(probe="other"))
ITS_PARSER_IS_UNKNOWN = gives(meter(parser="nonesuch"))
ITS_TOTAL_RAISES = gives(meter(), total=fails)
ITS_PARSER_RAISES = gives(meter(parser="mine"), parsers={"mine": lambda raw, key: {}[raw]}, total=lambda s: ["mine"])
ITS_PARSER_ENDS = gives(meter(parser="mine"), parsers={"mine": lambda raw, key: sys.exit(0)}, total=lambda s: ["mine"])


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    registry.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    registry.cache_clear()


def with_kind(patch: pytest.MonkeyPatch, value: str, name: str = "theirs") -> Discovery:
    """What a laptop tells where this kind is installed too."""
    points = [*entry_points(group=module.GROUP), EntryPoint(name, value, module.GROUP)]
    patch.setattr(module, "entry_points", lambda group: points)
    return linux.discover(inventory_of(load_tree(LAPTOP)))


def test_every_kind_of_melts_own_is_registered_under_its_files_name() -> None:
    files = {m.name for m in pkgutil.iter_modules(kinds.__path__)} - {"base", "board_rails"}
    registered = {e.name: e.value for e in entry_points(group=module.GROUP) if e.value.startswith("melt.")}
    assert registered == {name: f"melt.telemetry.kinds.{name}:KIND" for name in files}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:KIND", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{__name__}:NONESUCH", "AttributeError: "),
        (f"{__name__}:NO_KIND", "is no melt.telemetry.kinds.base.SensorKind"),
        (f"{__name__}:ITS_PARSER_IS_TAKEN", "another kind has a parser 'number'"),
        (f"{__name__}:IT_RAISES", "RuntimeError: no such bus[31m"),
        (f"{__name__}:IT_ENDS", "fails in find: SystemExit: 0"),
        (f"{__name__}:IT_FINDS_JUNK", "fails in find: TypeError: it is a str"),
        (f"{__name__}:ITS_GLOBS_ARE_ONE", "TypeError: its globs is a str"),
        (f"{__name__}:ITS_PRECEDENCE_IS_NONE", "TypeError: its precedence is a str"),
        (f"{__name__}:ITS_SOURCE_IS_TAKEN", "there is a source 'process:rss' already"),
        (f"{__name__}:ITS_SOURCES_SHARE_A_NAME", "there is a source 'mine' already"),
        (f"{__name__}:ITS_PARSER_IS_UNKNOWN", "there is no parser 'nonesuch'"),
    ],
)
def test_a_broken_kind_is_an_absent_sensor_and_the_others_are_as_before(
    value: str, reason: str, install: pytest.MonkeyPatch
) -> None:
    before = linux.discover(inventory_of(load_tree(LAPTOP)))
    registry.cache_clear()
    found = with_kind(install, value)
    [absent] = [a for a in found.absent if a.name == "sensor kind theirs"]
    assert reason in absent.reason
    assert "uninstall" in absent.hint
    assert (found.probes, found.sources) == (before.probes, before.sources)


def test_a_kind_whose_total_fails_leaves_the_total_to_the_next(install: pytest.MonkeyPatch) -> None:
    found = with_kind(install, f"{__name__}:ITS_TOTAL_RAISES")
    assert [s.name for s in found.sources if s.counts_in_total] == ["rapl:package-0", "rapl:package-0:dram"]
    assert "mine" in {s.name for s in found.sources}
    assert "sensor kind theirs" in {a.name for a in found.absent}


@pytest.mark.parametrize("kind", ["ITS_PARSER_RAISES", "ITS_PARSER_ENDS"])
def test_a_parser_that_raises_gives_no_number(kind: str, install: pytest.MonkeyPatch) -> None:
    found = with_kind(install, f"{__name__}:{kind}")
    [counted] = [s for s in found.sources if s.counts_in_total]
    assert counted.name == "mine"
    assert module.parse(counted, "7") is None


def test_nobody_takes_the_place_of_one_of_melts_own(install: pytest.MonkeyPatch) -> None:
    found = with_kind(install, f"{__name__}:ITS_TOTAL_RAISES", name="rapl")
    assert "rapl:package-0" in {s.name for s in found.sources}
    assert "another kind has that name" in next(a.reason for a in found.absent if a.name == "sensor kind rapl")


def test_an_installation_older_than_its_code_says_so(install: pytest.MonkeyPatch) -> None:
    install.setattr(module, "entry_points", lambda group: [])
    with pytest.raises(MeltError, match="older than its code") as raised:
        linux.inventory_globs()
    assert "pip install" in raised.value.hint


@pytest.mark.parametrize(("name", "memory"), [("process:peak_rss", "peak_rss"), ("gpu:memory", "allocated"), ("x", "")])
def test_results_from_before_say_by_a_sources_name_which_memory_it_is(name: str, memory: str) -> None:
    assert meter(name, quantity="memory_bytes", site="process").memory == memory


def test_every_source_of_memory_says_which_it_is() -> None:
    for device in (LAPTOP, "jetson-agx-orin", "raspberry-pi-5"):
        sources = linux.discover(inventory_of(load_tree(device))).sources
        assert {bool(s.memory) for s in sources if s.quantity == "memory_bytes"} == {True}
        assert not any(s.memory for s in sources if s.quantity != "memory_bytes")


@pytest.mark.parametrize(
    ("name", "quantity"), [("rapl", "power_w"), ("battery:BAT0:power", "power_w"), ("thermal:gpu", None)]
)
def test_results_from_before_say_by_a_name_what_would_have_given_energy(name: str, quantity: str | None) -> None:
    assert Absent.model_validate_json(json.dumps({"name": name, "reason": "gone"})).quantity == quantity
    of_now = Absent(name="power_mode", reason="not known")  # a condition, which is no sensor
    assert Absent.model_validate_json(of_now.model_dump_json()).quantity is None


def test_every_absent_sensor_says_what_it_would_have_measured() -> None:
    """But what stands for several, as a file of the kernel's, and the whole device's energy."""
    for device in (LAPTOP, "jetson-agx-orin", "raspberry-pi-5"):
        absent = linux.discover(inventory_of(load_tree(device))).absent
        unsaid = [a.name for a in absent if a.quantity is None and not a.name.startswith("/")]
        assert unsaid in ([], ["energy"])


@pytest.mark.parametrize(("platform", "word"), [("linux", "cable"), ("android", "Wi-Fi"), ("ios", "Wi-Fi")])
def test_one_kind_says_how_a_device_is_not_fed(platform: str, word: str) -> None:
    [hint] = [kind.unplug_hint for kind in kinds_for(platform).values() if kind.unplug_hint]
    assert word in hint
