"""Under which conditions it was measured, and what that leaves in doubt."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from melt.analysis.cliff import cliffs
from melt.analysis.flags import NOT_COMPARED
from melt.analysis.frames import Results
from melt.analysis.measures.energy import PHASES
from melt.analysis.metrics import METRICS
from melt.analysis.stats import SESSIONS_FOR_INTERVAL
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


def models(results: Results, groups: list[CurveGroup]) -> list[ModelCard]:
    """Every model that was measured or tried, once."""
    css = {(d.curve.name, d.curve.cells["quant"].iloc[0]): d.look.css for group in groups for d in group.curves}
    of_name = Counter(n for n, _ in {(m.model.name, m.model.sha256) for m in results.manifests.values() if m.model})
    found: dict[tuple[str, str, str], ModelCard] = {}
    for m in (m.model for m in results.manifests.values()):
        if m is None or (m.name, m.quant, m.sha256) in found:
            continue
        trained = f"; trained on contexts up to {text.tokens(m.context_trained)}" if m.context_trained else ""
        weights = "random numbers in the published shape" if m.synthetic else "as published"
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
        Fact("Sessions", f"{_range(results.cells['n_sessions'])} a cell, each a fresh process"),
        Fact("Timed passes", f"{_range(ok['n_iterations'])} a session" if len(ok) else "none"),
        Fact("Runs", ", ".join(f"{statuses[s]:,} {s}" for s in ("ok", "failed", "skipped") if statuses[s])),
        Fact("Measured", when),
    ]
    return [Fact(f.name, text.clean(f.value)) for f in facts]


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


def _range(values: "pd.Series[int]") -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def caveats(results: Results, groups: list[CurveGroup]) -> list[str]:
    """What the reader should know before believing a number, most important first."""
    return [
        *_synthetic(results),
        *_not_compared(results),
        *_virtual(results),
        *_energy(results),
        *_sessions(results),
        *_failures(results),
        *_flagged(results),
        *_cliffs(groups),
        *_damaged(results),
    ]


def _synthetic(results: Results) -> list[str]:
    names = {text.name(m.model.name) for m in results.manifests.values() if m.model and m.model.synthetic}
    if not names:
        return []
    return [
        f"{text.joined(sorted(names))}: the weights are random numbers in the exact published shape. Speed, memory and "
        "energy do not depend on the values; nothing here says how well such a model answers."
    ]


def _not_compared(results: Results) -> list[str]:
    """Of each flag that keeps runs out of comparisons: which cells, and why."""
    out = []
    for flag in NOT_COMPARED:
        found = results.flags[results.flags["flag"] == flag]
        if found.empty:
            continue
        cells = [results.manifests[run_id].cell for run_id in found["run_id"]]
        names = sorted({f"{text.name(c.device)} · {text.name(c.backend)} · {text.name(c.accelerator)}" for c in cells})
        out.append(
            f"{text.name(flag).replace('_', ' ').capitalize()}: {text.joined(names)}. "
            f"{text.clean(found['evidence'].iloc[0])}. These cells stand in the tables, and in no figure or comparison."
        )
    return out


def _virtual(results: Results) -> list[str]:
    machines = {
        (text.name(m.cell.device), text.clean(m.device.virtual_machine))
        for m in results.manifests.values()
        if m.device.virtual_machine
    }
    return [
        f"{device} is a virtual machine ({kind}): other guests of its host may disturb the timings, and sensors of "
        "power, temperature and clocks are usually out of reach."
        for device, kind in sorted(machines)
    ]


def _energy(results: Results) -> list[str]:
    out = []
    for device, group in results.runs[results.runs["status"] == "ok"].groupby("device"):
        if group[[f"energy_{phase}_j" for phase in PHASES]].notna().any().any():
            continue
        reasons = Counter(r for c in [f"energy_{phase}_reason" for phase in PHASES] for r in group[c].dropna())
        reason = text.clean(reasons.most_common(1)[0][0]) if reasons else "no power was recorded"
        manifest = results.manifests[group["run_id"].iloc[-1]]
        absent = [a for a in manifest.telemetry.absent if any(w in a.name for w in ("rapl", "power", "battery"))]
        because = "; ".join(f"{text.clean(a.name)}: {text.clean(a.reason)}" for a in absent)
        out.append(f"Energy on {text.name(device)} is absent, not zero: {reason}{f' ({because})' if because else ''}.")
    return out


def _sessions(results: Results) -> list[str]:
    measured = results.cells.loc[results.cells["n_sessions"] > 0, "n_sessions"]
    if measured.empty or measured.min() >= SESSIONS_FOR_INTERVAL:
        return []
    if measured.max() == 1:
        return ["Every cell has a single session: there are no intervals, and small differences mean nothing."]
    few = sorted({int(n) for n in measured if 1 < n < SESSIONS_FOR_INTERVAL})
    odds = text.joined([f"{100 * (1 - 2 ** (1 - n)):.4g} % with {n}" for n in few])
    single = " A cell with one session has no interval." if measured.min() == 1 else ""
    return [
        f"Cells have {_range(measured)} sessions. With fewer than {SESSIONS_FOR_INTERVAL} the interval of a median "
        f"is about the range of its sessions, and holds the true one with less than 95 % probability: {odds}.{single}"
    ]


def _failures(results: Results) -> list[str]:
    out = []
    for status in ("failed", "skipped"):
        group = results.runs[results.runs["status"] == status]
        if len(group):
            kinds = Counter(text.clean(k) for k in group["error_kind"].dropna())
            reasons = ", ".join(f"{kind} ({n})" for kind, n in kinds.most_common(4))
            runs = text.plural(len(group), f"{status} run")
            out.append(f"{runs}: {reasons}. The table of runs gives the reason of each.")
    return out


def _flagged(results: Results) -> list[str]:
    ok = set(results.runs.loc[results.runs["status"] == "ok", "run_id"])
    flags = Counter(f for f, run_id in zip(results.flags["flag"], results.flags["run_id"], strict=True) if run_id in ok)
    if not flags:
        return []
    listed = ", ".join(f"{text.clean(f).replace('_', ' ')} ({n})" for f, n in flags.most_common(6))
    return [f"Some runs carry flags: {listed}. The evidence is in the table of runs."]


def _cliffs(groups: list[CurveGroup]) -> list[str]:
    return [
        f"Cliff: {METRICS[c.metric].title} of {d.label} changes by a factor {text.number(c.factor)} more than "
        f"its cost law explains between {text.count(c.before)} and {text.tokens(c.after)}."
        for group in groups
        for d in group.curves
        for c in cliffs(d.curve)
    ]


def _damaged(results: Results) -> list[str]:
    if not results.damaged:
        return []
    first = results.damaged[0]
    what = f"{text.plural(len(results.damaged), 'folder')} could not be read and left out"
    return [f"{what}, for example {text.clean(first.folder.name)}: {text.clean(first.reason)}."]
