"""How to measure the same again: the plan where the results folder holds it, or else a command that equals it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from melt.analysis.frames import Results
from melt.report.text import clean
from melt.store.manifest import Manifest

PLAN_FILE = "plan.yaml"
MAX_PLAN_CHARS = 50_000
MAX_PLANS = 5
# Cell fields that have an option, with the option's default: left out of the command where they are that.
_OPTIONS = {
    "backend": ("--backend", "llama.cpp"),
    "accelerator": ("--accelerator", "cpu"),
    "runner": ("--runner", "auto"),
    "threads": ("--threads", None),
}


def plans(results: Results) -> list[tuple[str, str]]:
    """(how it is used, text) of every plan that lies with the runs; a command for each plan that does not."""
    found: dict[str, str] = {}
    without: dict[str, list[Manifest]] = {}
    for rec in results.recorded:
        body = _read(rec.run.folder / PLAN_FILE)
        if body:
            found.setdefault(body, f"melt run {PLAN_FILE}")
        else:
            without.setdefault(rec.manifest.plan_name, []).append(rec.manifest)
    shown = [(how, body) for body, how in list(found.items())[:MAX_PLANS]]
    return shown + [("melt run, with options", command(of_plan)) for of_plan in list(without.values())[:MAX_PLANS]]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:MAX_PLAN_CHARS]
    except OSError:
        return ""


def command(manifests: Sequence[Manifest]) -> str:
    """A `melt run` that makes the same cells."""
    cells = [m.cell for m in manifests]
    parts = ["melt run"]
    for option, values in (("--device", [c.device for c in cells]), ("--model", [c.model for c in cells])):
        parts += [f"{option} {shlex.quote(clean(v))}" for v in dict.fromkeys(values)]
    for field, (option, default) in _OPTIONS.items():
        chosen = list(dict.fromkeys(getattr(c, field) for c in cells))
        if chosen != [default]:
            parts.append(f"{option} {','.join(str(v) for v in chosen if v is not None)}")
    contexts = sorted({c.prompt_tokens for c in cells})
    parts.append(f"--context {','.join(str(c) for c in contexts)}")
    parts.append(f"--gen {','.join(str(g) for g in sorted({c.gen_tokens for c in cells}))}")
    parts.append(f"--sessions {1 + max(m.session for m in manifests)}")
    iterations = {m.job.get("iterations") for m in manifests if isinstance(m.job.get("iterations"), int)}
    if len(iterations) == 1:
        parts.append(f"--iterations {iterations.pop()}")
    return " \\\n  ".join(parts)
