"""The page: everything the template needs, escaped by the template."""

from collections.abc import Sequence
from dataclasses import replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melt.analysis.advice import advice
from melt.analysis.frames import Results
from melt.analysis.integration import MAX_UNCERTAINTY, MIN_COVERAGE
from melt.analysis.metrics import METRICS
from melt.analysis.paired import EVEN_WITHIN
from melt.analysis.passport import passport_id
from melt.analysis.stats import ROUNDS_FOR_VERDICT
from melt.report import conditions, palette, reproduce, text
from melt.report.caveats import caveats
from melt.report.chapters import MAX_GROUPS, Chapter
from melt.report.crossings import crossing_rows
from melt.report.curve_groups import CurveGroup
from melt.report.pairs import closest_first, told_together
from melt.report.sentences import model_flags, model_sentence
from melt.report.svg import inline
from melt.report.tables import Table, cells_table, rails_table, runs_table
from melt.telemetry.needed_time import PHASE_PERIODS
from melt.version import __version__

MAX_PAIRS = 6
MAX_TITLE_MODELS = 4
MAX_ROWS = 1_000
MAX_PASSPORTS = 12
OPEN_ROWS = 40  # a longer table starts closed


def render(results: Results, groups: Sequence[CurveGroup], chapters: Sequence[Chapter]) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("melt.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = text.plural
    return environment.get_template("page.html.j2").render(
        title=_title(results, groups),
        version=__version__,
        light=Markup(palette.css_variables(dark=False)),  # noqa: S704 - our own colours
        dark=Markup(palette.css_variables(dark=True)),  # noqa: S704 - our own colours
        metrics=METRICS,
        devices=conditions.devices(results),
        models=conditions.models(results, list(groups)),
        protocol=conditions.protocol(results),
        order=conditions.order(results),
        disturbance=advice(results.runs, results.cells),
        caveats=caveats(results, list(groups)),
        headlines=_headlines(results, groups),
        crossings=[row for s in groups for row in crossing_rows(s)],
        several=len(groups) > 1,
        left_out=max(0, len(groups) - MAX_GROUPS),
        legends=_legend(groups),
        chapters=[_chapter(c, i == 0 or chapters[i - 1].title != c.title) for i, c in enumerate(chapters)],
        cells=_shortened(cells_table(results)),
        rails=_shortened(rails_table(results)),
        runs=_shortened(runs_table(results)),
        n_cells=len(results.cells),
        n_runs=len(results.runs),
        open_rows=OPEN_ROWS,
        passports=_passports(results),
        plans=reproduce.plans(results),
        rounds_for_verdict=ROUNDS_FOR_VERDICT,
        even_within=round(EVEN_WITHIN * 100),
        energy={
            "coverage": round(MIN_COVERAGE * 100),
            "periods": PHASE_PERIODS,
            "uncertainty": round(MAX_UNCERTAINTY * 100),
        },
    )


def _title(results: Results, groups: Sequence[CurveGroup]) -> str:
    """Who is compared with whom on what; without a pair the devices alone."""
    devices = list(dict.fromkeys(text.name(m.cell.device) for m in results.manifests.values()))
    pairs = [pair for s in groups for pair in s.pairs]
    challengers = list(dict.fromkeys(a.label for a, _ in pairs))
    references = list(dict.fromkeys(b.label for _, b in pairs))
    if not pairs or len(challengers) + len(references) > MAX_TITLE_MODELS:
        return f"Language models on {_few(devices)}"
    return f"{text.joined(challengers)} against {text.joined(references)} on {_few(devices)}"


def _few(names: list[str]) -> str:
    return text.joined(names) if len(names) <= 3 else f"{', '.join(names[:3])} and more"


def _headlines(results: Results, groups: Sequence[CurveGroup]) -> list[dict[str, object]]:
    """For each group its pairs, the closest matched first; models without a pair in a sentence."""
    groups = groups[:MAX_GROUPS]
    shown = [closest_first(group)[:MAX_PAIRS] for group in groups]
    pairs = told_together(
        [(group, a, b) for group, found in zip(groups, shown, strict=True) for a, b in found], results
    )
    out = []
    for group, found in zip(groups, shown, strict=True):
        in_pairs = {drawn.label for both in group.pairs for drawn in both}
        unpaired = [(model_sentence(d), model_flags(d)) for d in group.curves if d.label not in in_pairs]
        more = len(group.pairs) - len(found)
        of_group, pairs = pairs[: len(found)], pairs[len(found) :]
        out.append({"title": group.title, "pairs": of_group, "more": more, "unpaired": unpaired})
    return out


def _legend(groups: Sequence[CurveGroup]) -> list[dict[str, str]]:
    """Each drawn model once: name, family and stroke."""
    drawn = {d.label: d for s in groups for d in s.curves}
    return [
        {
            "label": d.label,
            "family": palette.FAMILY_WORDS.get(d.curve.family, "unknown family"),
            "css": d.look.css,
            "dashes": " ".join(f"{2 * x:g}" for x in d.look.dashes),
        }
        for d in drawn.values()
    ]


def _chapter(chapter: Chapter, opens: bool) -> dict[str, object]:
    """A chapter for the template; ``opens`` where it is the first of its title."""
    plates = [
        {
            "slug": plate.slug,
            "drawing": plate.drawing,
            # The SVG is matplotlib's own document, in which names are escaped already.
            "svg": Markup(inline(plate.svg, plate.slug, f"{plate.drawing.heading}. {plate.drawing.caption}")),  # noqa: S704
        }
        for plate in chapter.plates
    ]
    return {
        "title": chapter.title,
        "lead": chapter.lead,
        "slug": chapter.slug,
        "group": chapter.group,
        "opens": opens,
        "plates": plates,
    }


def _shortened(table: Table) -> Table:
    """The table's first rows; of a very large store the rest is in the CSV file alone."""
    return replace(table, rows=table.rows[:MAX_ROWS])


def _passports(results: Results) -> list[dict[str, object]]:
    """Every distinct passport with its runs."""
    found: dict[str, dict[str, str]] = {}
    runs: dict[str, int] = {}
    for manifest in results.manifests.values():
        key = passport_id(manifest.passport)
        if key not in found:
            found[key] = {text.clean(k): text.clean(v) for k, v in manifest.passport.items()}
        runs[key] = runs.get(key, 0) + 1
    return [{"id": key, "entries": found[key], "runs": runs[key]} for key in list(found)[:MAX_PASSPORTS]]
