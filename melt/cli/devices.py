"""``melt devices``."""

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.cli import printable
from melt.drivers import connect
from melt.errors import MeltError
from melt.profile import DeviceProfile, load_profile, profile_paths


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  melt devices\n  melt devices show local\n  melt devices show local --json",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_context
def devices(ctx: click.Context, as_json: bool) -> None:
    """List device profiles, and which of them are there now; ``show NAME`` gives one device's facts."""
    if ctx.invoked_subcommand is None:
        rows = [_row(name) for name in profile_paths()]
        if as_json:
            click.echo(json.dumps(rows, indent=1))
        else:
            Console().print(_table(rows))


def _row(name: str) -> dict[str, Any]:
    try:
        profile = load_profile(name)
    except MeltError as e:
        return {"name": name, "driver": "", "state": "broken profile", "reason": e.message, "verified": ""}
    state, reason = _state(profile)
    row = {"name": name, "driver": profile.driver, "state": state, "reason": reason, "verified": profile.verified}
    return {**row, "description": profile.description}


def _state(profile: DeviceProfile) -> tuple[str, str]:
    try:
        connect(profile).close()
    except MeltError as e:
        return "not available", e.message
    return "ready", ""


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading in ("device", "driver", "state", "seen on hardware", "reason"):
        table.add_column(heading)
    for row in rows:
        colour = {"ready": "green", "not available": "yellow"}.get(row["state"], "red")
        cells = [escape(printable(str(row[k]))) for k in ("name", "driver", "state", "verified", "reason")]
        table.add_row(cells[0], cells[1], f"[{colour}]{cells[2]}[/{colour}]", cells[3], cells[4])
    return table


@devices.command(epilog="\b\nExample:\n  melt devices show local --json")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def show(name: str, as_json: bool) -> None:
    """Show what a device says of itself, and which sensors it has."""
    profile = load_profile(name)
    driver = connect(profile)
    try:
        facts, found = driver.facts(), driver.discover()
    finally:
        driver.close()
    if as_json:
        data = {
            "profile": profile.model_dump(mode="json"),
            "facts": facts.model_dump(),
            "telemetry": found.model_dump(),
        }
        click.echo(json.dumps(data, indent=1))
        return
    console = Console()
    table = Table("fact", "value", title=escape(printable(f"{profile.name}: {profile.description}")))
    for key, value in facts.model_dump().items():
        if value not in (None, (), {}, ""):
            table.add_row(key, escape(printable(_fact(key, value))))
    console.print(table)
    sources = Table("source", "sensor", "quantity", "site", "in the total", title="Sensors")
    for s in found.sources:
        total = "yes" if s.counts_in_total else ""
        sources.add_row(*(escape(printable(t)) for t in (s.name, s.sensor, s.quantity, s.site, total)))
    console.print(sources)
    for absent in found.absent:
        console.print(f"absent: {escape(printable(absent.name))}: {escape(printable(absent.reason))}", highlight=False)


def _fact(key: str, value: Any) -> str:
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**20:.0f} MiB"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
