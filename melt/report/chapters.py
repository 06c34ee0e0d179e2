"""The report's chapters of figures, in the order a reader needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

from melt.analysis.frames import Results
from melt.report.curve_groups import CurveGroup
from melt.report.figures.context import context_figures
from melt.report.figures.drawing import Drawing
from melt.report.figures.intervals import token_intervals
from melt.report.figures.memory import memory_parts
from melt.report.figures.operators import operators
from melt.report.figures.traces import traces

MAX_GROUPS = 6  # of more, the rest are in the tables
MAX_TRACED = 2  # groups whose runs are shown over time


@dataclass
class Plate:
    """A figure and its place in the files; ``svg`` is set when it is drawn."""

    slug: str
    drawing: Drawing
    svg: str = ""


@dataclass
class Chapter:
    """Figures of one kind for one group of curves; ``group`` is its title, empty where there is only one."""

    title: str
    lead: str
    slug: str
    group: str
    plates: tuple[Plate, ...]


LEADS = {
    "speed": (
        "Speed against context length",
        "The longer the prompt, the more a Transformer has to look back at for every token; a state-space model "
        "carries a state of fixed size instead. Lines join medians over sessions, bands are their bounds, small "
        "marks are the sessions themselves (hollow: disturbed, and not counted), and a ring shows where a line crosses "
        "the Transformer's, with the interval of that place.",
    ),
    "memory": (
        "Memory",
        "A Transformer keeps keys and values of every token it has read (the KV cache); a state-space model keeps "
        "one state, whatever the length. Measured, explained and predicted memory stand side by side.",
    ),
    "energy": (
        "Energy",
        "Power integrated over each phase. What could not be measured well enough is left out, with the reason in "
        "the table of runs.",
    ),
    "pace": ("Pace of the answer", "Two models with one average can feel different: one steady, one that stalls."),
    "traces": (
        "Over time",
        "One session of each model at its longest context. Shaded: prefill, in which it reads the prompt, and decode, "
        "in which it writes the answer.",
    ),
    "ops": (
        "Where the time goes",
        "Attention looks back at every earlier token, so its share grows with the context; a scan carries a state "
        "along instead. Matrix products with the weights are the same work for every token.",
    ),
}


def chapters(groups: Sequence[CurveGroup], results: Results) -> list[Chapter]:
    """Every chapter that has a figure."""
    several = len(groups) > 1
    out = []
    for kind, (title, lead) in LEADS.items():
        for group in groups[: MAX_TRACED if kind == "traces" else MAX_GROUPS]:
            drawings = _drawings(kind, group, results)
            if drawings:
                slug = f"{kind}-{group.slug}" if several else kind
                prefix = f"{group.slug}-" if several else ""
                plates = _named(drawings, prefix)
                out.append(Chapter(title, lead, slug, group.title if several else "", plates))
    return out


def _named(drawings: Sequence[Drawing], prefix: str) -> tuple[Plate, ...]:
    """Plates with slugs that are unique, whatever the models are called."""
    taken: dict[str, int] = {}
    plates = []
    for drawing in drawings:
        slug = f"{prefix}{drawing.slug.replace('_', '-')}"
        taken[slug] = taken.get(slug, 0) + 1
        plates.append(Plate(slug if taken[slug] == 1 else f"{slug}-{taken[slug]}", drawing))
    return tuple(plates)


def _drawings(kind: str, group: CurveGroup, results: Results) -> list[Drawing]:
    if kind == "speed":
        return context_figures(group, "latency")
    if kind == "memory":
        return context_figures(group, "memory") + memory_parts(group)
    if kind == "energy":
        return context_figures(group, "energy")
    if kind == "pace":
        found = token_intervals(group, results)
        return [found] if found else []
    return traces(group, results) if kind == "traces" else operators(group, results)
