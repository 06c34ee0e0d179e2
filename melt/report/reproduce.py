"""How to measure the same again: the plan where the results folder holds it, or else a command that equals it."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from melt.analysis.frames import Results
from melt.errors import MeltError
from melt.report.text import clean
from melt.spec.axes import Axis
from melt.spec.cell import AXES
from melt.spec.plan import load_plan, to_yaml
from melt.store.manifest import Manifest
from melt.store.store import PLAN

MAX_PLAN_CHARS = 50_000
MAX_PLANS = 5


def plans(results: Results) -> list[tuple[str, str]]:
    """(how it is used, text) of every plan that lies with the runs; a command for each plan that does not."""
    found: dict[str, str] = {}
    without: dict[str, list[Manifest]] = {}
    for rec in results.recorded:
        body = _read(rec.run.folder / PLAN)
        if body:
            found.setdefault(body, f"melt run {PLAN}")
        else:
            without.setdefault(rec.manifest.plan_name, []).append(rec.manifest)
    shown = [(how, body) for body, how in list(found.items())[:MAX_PLANS]]
    return shown + [("melt run, with options", command(of_plan)) for of_plan in list(without.values())[:MAX_PLANS]]


def _read(path: Path) -> str:
    """A plan that lies with a run, as melt writes it: what is no plan is not shown, whatever else it may be."""
    try:
        body = to_yaml(load_plan(path))
    except MeltError:
        return ""
    return body if len(body) <= MAX_PLAN_CHARS else ""


def command(manifests: Sequence[Manifest]) -> str:
    """A `melt run` that makes the same cells, and the others of their product."""
    parts = ["melt run"]
    for axis in AXES.values():
        values = tuple(dict.fromkeys(getattr(m.cell, axis.name) for m in manifests if m.cell.means(axis)))
        if values and values != axis.default_list:
            parts += _said(axis, sorted(values) if axis.whole_numbers and None not in values else values)
    parts.append(f"--sessions {1 + max(m.session for m in manifests)}")
    return " \\\n  ".join(parts)


def _said(axis: Axis, values: Sequence[Any]) -> list[str]:
    """The options that give an axis these values."""
    if not axis.option or None in values:
        plain = [dict(v) if isinstance(v, tuple) else v for v in values]
        return [f"--set {shlex.quote(clean(f'{axis.key}={json.dumps(plain)}'))}"]
    if axis.whole_numbers:
        return [f"{axis.option} {','.join(str(v) for v in values)}"]
    return [f"{axis.option} {shlex.quote(clean(v))}" for v in values]
