"""``melt doctor``."""

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape

from melt.cli import printable
from melt.doctor.device import check_device
from melt.doctor.host import check_host
from melt.spec.check import Check

_MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "problem": "[red]problem[/red]"}


@click.command(epilog="\b\nExamples:\n  melt doctor\n  melt doctor --device local\n  melt doctor --device local --json")
@click.option("--device", help="Also check this device: its driver, its engine, its sensors.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def doctor(device: str | None, as_json: bool) -> int:
    """Check what measuring needs, and say how to mend what is missing.

    Exit code 0 when nothing stands in the way (warnings may remain), 1 when something does.
    """
    checks = [*check_host(), *(check_device(device) if device else [])]
    if as_json:
        click.echo(json.dumps([asdict(c) for c in checks], indent=1))
    else:
        _print(checks)
    return 1 if any(c.state == "problem" for c in checks) else 0


def _print(checks: list[Check]) -> None:
    console = Console(emoji=False)
    for check in checks:
        text = f"{_MARKS[check.state]}  {escape(printable(check.name))}: {escape(printable(check.found))}"
        console.print(text, highlight=False, soft_wrap=True)
        if check.fix and check.state != "ok":
            console.print(f"         fix: {escape(printable(check.fix))}", highlight=False, soft_wrap=True)
