"""Under which conditions it was measured: devices, models, and what was done with them."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from melt.analysis.frames import Results
from melt.models.refs import SCHEMES
from melt.report import text
from melt.report.curve_groups import CurveGroup
from melt.report.palette import FAMILY_WORDS
from melt.spec.axes import Axis
from melt.spec.cell import AXES, Cell
from melt.store.manifest import Manifest


@dataclass(frozen=True)
class Fact:
    """A line of a list of facts."""

    name: str
    value: str


@dataclass(frozen=True)
class ModelCard:
    """A model as it was measured."""

    name: str
    family: str
    parameters: str
    quant: str
    file: str
    synthetic: bool
    weights: str
    css: str


def devices(results: Results) -> dict[str, list[Fact]]:
    """Facts of each device by name; of several states of one device the newest, and every engine that ran."""
    tried = [m for m in results.manifests.values() if m.status != "skipped"] or [*results.manifests.values()]
    newest = {m.cell.device: m for m in tried}
    engines = {
        device: dict.fromkeys(_engine(m.versions) for m in tried if m.cell.device == device) for device in newest
    }
    modes = {
        device: sorted({m.device.power_mode or "" for m in tried if m.cell.device == device} - {""})
        for device in newest
    }
    return {
        text.name(device): _device(m, [e for e in engines[device] if e], ", ".join(modes[device]))
        for device, m in newest.items()
    }


def _device(manifest: Manifest, engines: list[str], power_modes: str) -> list[Fact]:
    d = manifest.device
    cores = f"{d.physical_cores or '?'} cores, {d.logical_cores or '?'} threads"
    facts = [
        ("Processor", d.soc),
        ("Cores", cores if d.logical_cores else None),
        ("Memory", text.size(float(d.ram_bytes)) if d.ram_bytes else None),
        ("System", d.os_build),
        ("Kernel", d.kernel),
        ("Architecture", d.machine),
        ("Product", d.product),
        ("Clock governor", d.governor),
        ("Clocks", d.clocks),
        ("Highest clocks allowed", d.clock_cap),
        ("Turbo", d.turbo),
        ("Energy preference", d.energy_preference),
        ("Platform profile", d.platform_profile),
        ("Power supply", d.supply),
        ("Battery saver", d.battery_saver),
        ("Power mode", power_modes),
        ("Fan", d.extra.get("fan")),
        ("JetPack", d.extra.get("jetpack")),
        ("CUDA", d.extra.get("cuda")),
        ("Virtual machine", d.virtual_machine),
        *(("Engine", engine) for engine in engines),
        ("melt", manifest.versions.get("melt")),
    ]
    return [Fact(name, text.clean(value)) for name, value in facts if value]


def _engine(versions: dict[str, str]) -> str | None:
    """The engine with what tells its build; other software's versions where it has not said."""
    if "engine" not in versions:
        return ", ".join(f"{k} {v}" for k, v in versions.items() if k != "melt") or None
    build = [
        f"{k.removeprefix('engine_').replace('_', ' ')} {v}" for k, v in versions.items() if k.startswith("engine_")
    ]
    return versions["engine"] + (f" ({', '.join(build)})" if build else "")


def _origin(ref: str) -> str:
    """What is known of real weights: of a file of the user's nobody knows whether it is the published one."""
    return "as published" if ref.partition(":")[0] in SCHEMES and ":" in ref else "of a file of the user's"


def models(results: Results, groups: list[CurveGroup]) -> list[ModelCard]:
    """Every model that was measured or tried, once."""
    css = {(d.curve.name, d.curve.cells["quant"].iloc[0]): d.look.css for group in groups for d in group.curves}
    of_name = Counter(n for n, _ in {(m.model.name, m.model.sha256) for m in results.manifests.values() if m.model})
    found: dict[tuple[str, str, str], ModelCard] = {}
    for m in (m.model for m in results.manifests.values()):
        if m is None or (m.name, m.quant, m.sha256) in found:
            continue
        trained = f"; trained on contexts up to {text.tokens(m.context_trained)}" if m.context_trained else ""
        weights = "random numbers in the published shape" if m.synthetic else _origin(m.ref)
        found[(m.name, m.quant, m.sha256)] = ModelCard(
            name=text.name(m.name),
            family=FAMILY_WORDS[m.family],
            parameters=text.parameters(float(m.n_params)),
            quant=text.clean(m.quant),
            file=text.size(float(m.file_bytes)),
            synthetic=m.synthetic,
            weights=weights + text.clean(trained) + (f"; from {text.clean(m.ref)}" if of_name[m.name] > 1 else ""),
            css=css.get((m.name, m.quant), "var(--muted)"),
        )
    rank = list(FAMILY_WORDS.values())
    return sorted(found.values(), key=lambda m: (rank.index(m.family), m.name))


def order(results: Results) -> str:
    """In which order sessions were measured, by when they were: a sentence; empty where no cell has two sessions.

    A cell's sessions stand alone where no other cell of its device was measured between its first and its last.
    """
    ok = results.runs[results.runs["status"] == "ok"].sort_values("started_at")
    alone = []
    for _, of_device in ok.groupby("device", sort=False):
        place = pd.Series(range(len(of_device)), index=of_device["cell_id"].to_numpy()).groupby(level=0)
        if place.ngroups > 1:
            alone += [len(at) == at.max() - at.min() + 1 for _, at in place if len(at) > 1]
    if not alone:
        return ""
    if not any(alone):
        return (
            "Sessions of all cells are interleaved in random order, so that a drift of the device lands on every cell "
            "alike."
        )
    which = "each cell" if all(alone) else "some cells"
    return (
        f"Sessions of {which} were measured one after the other: a drift of the device meanwhile cannot be told from a "
        "difference, so such cells make no rounds with others."
    )


def protocol(results: Results) -> list[Fact]:
    """What was done, how often and when."""
    runs = results.runs
    ok = runs[runs["status"] == "ok"]
    started = [s[:16].replace("T", " ") for s in (runs["started_at"].min(), runs["started_at"].max())]
    when = f"{started[0]} UTC" if started[0] == started[1] else f"{started[0]} to {started[1]} UTC"
    statuses = Counter(runs["status"])
    cells = [m.cell for m in results.manifests.values()]
    facts = [
        *(Fact(axis.heading, values) for axis in AXES.values() if (values := _values(axis, runs, cells))),
        Fact("Sessions", f"{text.span(results.cells['n_sessions'])} a cell, each a fresh process"),
        *_passes(ok),
        Fact("Runs", ", ".join(f"{statuses[s]:,} {s}" for s in ("ok", "failed", "skipped") if statuses[s])),
        Fact("Measured", when),
    ]
    return [Fact(f.name, text.clean(f.value)) for f in facts]


def _passes(ok: pd.DataFrame) -> list[Fact]:
    """How many passes were timed, where that is another number than was asked for: in a given time, or none at all."""
    made = ok["n_iterations"].astype(int)
    if len(ok) and set(made) == set(ok["iterations"].astype(int)):
        return []
    return [Fact("Timed passes", f"{text.span(made)} a session" if len(ok) else "none")]


def _values(axis: Axis, runs: pd.DataFrame, cells: Sequence[Cell]) -> str:
    """The values of a setting that stands in no title; nothing where no cell makes use of it."""
    if axis.always_said and axis.separates != "context":
        return ""
    asked = {getattr(c, axis.name) for c in cells if c.means(axis)}
    if asked <= {value for value in axis.older_than_field if value == axis.default}:
        return ""
    shown = _list(axis, {None if v != v else v for v in runs[axis.name]})
    if axis.unit and axis.unit not in axis.title:
        shown += f" {axis.unit}"
    if axis.per:
        shown += f" {axis.per}"
    return shown if len(asked) == 1 or axis.separates == "context" else f"{shown}: cells differ, see the table"


def _list(axis: Axis, values: Collection[Any]) -> str:
    known = sorted(v for v in values if v is not None)
    if known and isinstance(known[0], int | float) and not isinstance(known[0], bool):
        shown = [text.count(v) if float(v).is_integer() else text.number(v) for v in known]
    else:
        shown = [axis.text(v) for v in known]
    if len(shown) > 12:
        return f"{shown[0]} to {shown[-1]} ({len(shown)} values)"
    return ", ".join(shown) or "not known"
