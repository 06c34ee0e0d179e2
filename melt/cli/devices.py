"""``melt devices``."""

import json
import sys
from contextlib import closing
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from melt.cli import printable
from melt.cli.size import size_bytes
from melt.drivers import ask_drivers, connect, enrol_device
from melt.drivers.identity import told
from melt.drivers.lease import lease, lease_name
from melt.drivers.profiles import load_profile, profile_paths
from melt.errors import DeviceError, MeltError
from melt.spec.facts import DeviceFacts
from melt.spec.profile import DeviceProfile
from melt.telemetry.source import Discovery


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  melt devices\n  melt devices show local\n  melt devices show local --json",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_context
def devices(ctx: click.Context, as_json: bool) -> None:
    """List device profiles, and which of them are there now; `show NAME` gives one device's facts."""
    if ctx.invoked_subcommand is None:
        rows = [_row(name) for name in profile_paths()]
        if as_json:
            click.echo(json.dumps(rows, indent=1))
        else:
            Console(emoji=False).print(_table(rows))
            _print_attached()


@devices.command("enrol", epilog="\b\nExample:\n  melt devices enrol jetson-orin-nano")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Take the keys without asking, where you know the fingerprints already.")
def enrol(name: str, yes: bool) -> None:
    """Show the key of device NAME, and of the hosts on the way to it, and keep those you agree to.

    Compare an SSH host key's fingerprint with what the device itself says:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    profile = load_profile(name)

    def agree(shown: str) -> None:
        click.echo(printable(shown))
        if not yes and not sys.stdin.isatty():
            raise DeviceError(
                f"{name}: there is no terminal to ask whether that is its key", "If you know the fingerprint: --yes"
            )
        if not yes:
            _confirm("Is that its key?")

    kept = enrol_device(profile, agree)
    click.echo(f"{name}: kept in {kept}" if kept else f"{name}: known already")


def _confirm(question: str) -> None:
    """Ends melt as Ctrl-C does where the person does not agree."""
    try:
        click.confirm(question, abort=True)
    except click.Abort as e:  # a driver that asks is not to take it for a fault
        raise KeyboardInterrupt from e


def _print_attached() -> None:
    """Devices that are there, whether a profile names them or not: their names are what a profile needs."""
    for answer in ask_drivers(lambda driver: driver.attached()).values():
        if isinstance(answer, MeltError):  # the table says why
            continue
        for one in answer:
            what = " ".join(word for word in (one.kind, one.id, one.details) if word)
            click.echo(printable(f"attached: {what}" + (f": {one.problem}" if one.problem else "")))


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
        with closing(connect(profile)) as driver:
            problems = [check.found for check in driver.checks() if check.state == "problem"]
    except MeltError as e:
        return "not available", e.message
    return ("not available", problems[0]) if problems else ("ready", "")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("device", no_wrap=True)
    for heading in ("driver", "state", "verified"):
        table.add_column(heading, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in rows:
        colour = {"ready": "green", "not available": "yellow"}.get(row["state"], "red")
        keys = ("name", "driver", "state", "verified", "reason")
        name, driver, state, verified, reason = (escape(printable(str(row[k]))) for k in keys)
        reason = reason.removeprefix(f"{name}: ")
        table.add_row(name, driver, f"[{colour}]{state}[/{colour}]", verified, reason)
    return table


@devices.command(epilog="\b\nExamples:\n  melt devices show local\n  melt devices show pixel8 --json")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def show(name: str, as_json: bool) -> None:
    """Show a device: its profile and, where it is attached now, what it reports of itself and its sensors."""
    profile = load_profile(name)
    facts: DeviceFacts | None = None
    telemetry, reason = Discovery(), ""
    try:
        driver = connect(profile)
        try:
            facts, telemetry = told(profile, driver.facts(), looking=True), driver.discover()
        finally:
            driver.close()
    except MeltError as e:
        reason = e.message
    if as_json:
        data: dict[str, Any] = {"profile": profile.model_dump(mode="json"), "state": reason or "ready"}
        data["facts"] = facts.model_dump() if facts else None
        data["telemetry"] = telemetry.model_dump()
        click.echo(json.dumps(data, indent=1))
        return
    _print_profile(profile, reason)
    if facts is not None:
        _print_live(facts, telemetry)


@devices.command(epilog="\b\nExamples:\n  melt devices clean pixel8\n  melt devices clean pixel8 --limit 2GB")
@click.argument("name")
@click.option("--limit", default="0", help="Keep what was used last, up to this size (2GB).  [default: keep nothing]")
def clean(name: str, limit: str) -> None:
    """Remove the models and programs that melt put on a device; the next run sends what it needs again."""
    limit_bytes, profile = size_bytes(limit), load_profile(name)
    with closing(connect(profile)) as driver, lease(lease_name(profile, driver.facts()), name):
        removed_bytes = driver.clean(limit_bytes)
        click.echo(f"{name}: removed {removed_bytes / 2**20:,.1f} MiB, {driver.free_bytes() / 2**30:,.1f} GiB free")


def _print_profile(profile: DeviceProfile, reason: str) -> None:
    console = Console(emoji=False)
    console.print(f"[bold]{escape(printable(profile.name))}[/bold]  {escape(printable(profile.description))}")
    state = f"not available: {escape(printable(reason))}" if reason else "ready"
    console.print(f"driver {escape(printable(profile.driver))}; {state}; verified: {profile.verified}", highlight=False)
    if profile.facts:
        table = Table("published fact", "value", box=box.SIMPLE_HEAD)
        table.add_column("source", overflow="fold")
        for key, value in profile.facts.items():
            table.add_row(*(escape(printable(t)) for t in (key, value, profile.sources.get(key, ""))))
        console.print(table)
    for note in profile.notes:
        console.print(f"note: {escape(printable(note))}", highlight=False)


def _print_live(facts: DeviceFacts, telemetry: Discovery) -> None:
    console = Console(emoji=False)
    table = Table("fact", "value", box=box.SIMPLE_HEAD)
    for key, value in facts.model_dump().items():
        if value not in (None, (), {}, ""):
            table.add_row(key, escape(printable(_fact(key, value))))
    console.print(table)
    sources = Table("source", "sensor", "quantity", "site", "in the total", box=box.SIMPLE_HEAD)
    for s in telemetry.sources:
        total = "yes" if s.counts_in_total else ""
        sources.add_row(*(escape(printable(t)) for t in (s.name, s.sensor, s.quantity, s.site, total)))
    console.print(sources)
    for absent in telemetry.absent:
        console.print(f"absent: {escape(printable(absent.name))}: {escape(printable(absent.reason))}", highlight=False)


def _fact(key: str, value: Any) -> str:
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**20:.0f} MiB"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
