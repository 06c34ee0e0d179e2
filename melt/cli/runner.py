"""``melt runner``: build the native runner, and show what it can be built for."""

import json

import click
from rich.console import Console
from rich.table import Table

from melt.cli import end_cleanly_when_stopped
from melt.cli.build_bar import build_bar
from melt.errors import MeltError
from melt.toolchain.build import build, built
from melt.toolchain.targets import TARGETS, Target, find_target


@click.group(epilog="\b\nExamples:\n  melt runner list\n  melt runner build linux-aarch64-musl")
def runner() -> None:
    """Build the program that runs on devices without Python.

    `melt run` builds what it needs by itself; here it can be done beforehand, or for a device that is not attached.
    """


@runner.command("list", epilog="\b\nExamples:\n  melt runner list\n  melt runner list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_targets(as_json: bool) -> None:
    """List the targets, and what is built of them."""
    rows = [_row(target) for target in TARGETS.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table()
    table.add_column("target", no_wrap=True)
    table.add_column("for")
    table.add_column("state")
    for row in rows:
        table.add_row(str(row["name"]), str(row["for"]), str(row["state"]))
    Console().print(table)


def _row(target: Target) -> dict[str, object]:
    row: dict[str, object] = {"name": target.name, "for": target.what, "needs_cpu_features": list(target.needs)}
    try:
        path = built(target)
    except MeltError as e:
        return row | {"state": e.message, "hint": e.hint, "path": None}
    there = path.exists()
    return row | {"state": "built" if there else "not built", "path": str(path) if there else None}


@runner.command(
    "build",
    epilog="\b\nExamples:\n  melt runner build host\n  melt runner build linux-aarch64-musl\n  melt runner list",
)
@click.argument("target", shell_complete=lambda _c, _p, start: [name for name in TARGETS if name.startswith(start)])
def build_target(target: str) -> None:
    """Build the runner for TARGET, and print its path.

    Nothing is built again while sources, flags and compiler are the same.
    """
    end_cleanly_when_stopped()
    wanted = find_target(target)
    with build_bar(Console(stderr=True), wanted.name) as show:
        path = build(wanted, show)
    click.echo(path)
