"""What the reader should know before believing a number."""

from collections import Counter

from melt.analysis.cliff import cliffs
from melt.analysis.flags import NOT_COMPARED
from melt.analysis.frames import Results
from melt.analysis.metrics import METRICS
from melt.analysis.stats import ROUNDS_FOR_VERDICT, coverage
from melt.report import text
from melt.report.curve_groups import CurveGroup
from melt.spec.events import PHASES
from melt.telemetry.source import OF_ENERGY

_GIVES_ENERGY = (*OF_ENERGY, "charging")  # a battery's joules count only where it is known to discharge


def caveats(results: Results, groups: list[CurveGroup]) -> list[str]:
    """Every caveat, the most important first."""
    return [
        *_synthetic(results),
        *_experts(results),
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
        f"{text.joined(sorted(names))}: the weights are random numbers in the exact published shape. Speed and "
        "memory do not depend on the values, energy may; nothing here says how well such a model answers."
    ]


def _experts(results: Results) -> list[str]:
    mixtures = {
        text.name(m.model.name): (m.model.shape.get("n_experts_used", 0), m.model.shape["n_experts"])
        for m in results.manifests.values()
        if m.model and m.model.shape.get("n_experts")
    }
    return [
        f"{name} sends each token through {used} of its {every} experts, and prompts of random tokens spread over more "
        "of them than text does: on text its weights may be read less often, and it may be faster."
        for name, (used, every) in sorted(mixtures.items())
    ]


def _not_compared(results: Results) -> list[str]:
    """Of each flag that keeps runs out of comparisons: how many runs, of which cells, and why."""
    out = []
    for flag in NOT_COMPARED:
        found = results.flags[results.flags["flag"] == flag]
        if found.empty:
            continue
        cells = [results.manifests[run_id].cell for run_id in found["run_id"]]
        names = sorted({text.place(dict(c)) for c in cells})
        out.append(
            f"{text.name(flag).replace('_', ' ').capitalize()}: {text.joined(names)}. "
            f"{text.clean(found['evidence'].iloc[0])}. {text.plural(len(found), 'such run stands', 'such runs stand')} "
            "in the tables, and in no figure or comparison."
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
        absent = [a for a in manifest.telemetry.absent if a.quantity in _GIVES_ENERGY]
        because = "; ".join(f"{text.clean(a.name)}: {text.clean(a.reason)}" for a in absent)
        out.append(f"Energy on {text.name(device)} is absent, not zero: {reason}{f' ({because})' if because else ''}.")
    return out


def _sessions(results: Results) -> list[str]:
    cells = results.cells[results.cells["n_sessions"] > 0]
    measured = cells["n_clean"].where(cells["n_clean"] > 0, cells["n_sessions"])
    if measured.empty or measured.min() >= ROUNDS_FOR_VERDICT:
        return []
    if measured.max() == 1:
        return ["Every cell has a single session: there are no bounds, and no difference can be told."]
    few = sorted({int(n) for n in measured if 1 < n < ROUNDS_FOR_VERDICT})
    odds = text.joined([f"{100 * coverage(n):.3g} % with {n}" for n in few])
    single = " A cell with one session has no bounds." if measured.min() == 1 else ""
    return [
        f"Cells have {text.span(measured)} sessions, and no difference is told from fewer than {ROUNDS_FOR_VERDICT} "
        f"rounds of both. The bounds of a median are the range of its sessions then, which holds the true one with "
        f"{odds}.{single}"
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
