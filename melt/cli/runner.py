"""``melt runner``: build the native runner, and show what it can be built for."""

import json
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from melt.cli import end_cleanly_when_stopped
from melt.cli.build_bar import build_bar
from melt.drivers import connect
from melt.drivers.base import ShellDriver
from melt.drivers.lease import lease, lease_name
from melt.drivers.profiles import load_profile
from melt.errors import MeltError, RunnerError
from melt.toolchain.archives import PROGRAM, add_program, damaged_programs, programs, remove_program
from melt.toolchain.build import build, built
from melt.toolchain.on_device import GPUS, Gpu, build_on_device
from melt.toolchain.targets import ON_DEVICE, TARGETS, Target, find_target
from melt.util.text import plural

BY_THE_DEVICE = "the device's own compilers, for its GPU: CUDA on a Jetson, or Vulkan"


@click.group(epilog="\b\nExamples:\n  melt runner list\n  melt runner build linux-aarch64-musl")
def runner() -> None:
    """Build the program that runs on devices without Python, or bring a llama-bench of your own.

    `melt run` builds what it needs by itself; here it can be done beforehand, or for a device that is not attached.
    """


@runner.command("list", epilog="\b\nExamples:\n  melt runner list\n  melt runner list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_targets(as_json: bool) -> None:
    """List the targets, what is built of them, and every llama-bench that was added."""
    rows = [_row(target) for target in TARGETS.values()]
    rows.append(
        {"name": ON_DEVICE, "for": BY_THE_DEVICE, "needs_cpu_features": [], "state": "needs --device", "path": None}
    )
    rows += [
        {"name": p.name, "for": p.what, "needs_cpu_features": [], "state": "added", "path": str(p.path_of(PROGRAM))}
        for p in programs()
    ]
    rows += [
        {"name": n, "for": "a llama-bench that was added", "needs_cpu_features": [], "state": "damaged", "path": None}
        for n in damaged_programs()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table()
    table.add_column("target", no_wrap=True)
    table.add_column("for")
    table.add_column("state")
    for row in rows:
        table.add_row(str(row["name"]), str(row["for"]), str(row["state"]))
    Console(emoji=False).print(table)


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
    epilog="\b\nExamples:\n  melt runner build host\n  melt runner build linux-aarch64-musl\n"
    "  melt runner build on-device --device local\n  melt runner list",
)
@click.argument(
    "target", shell_complete=lambda _c, _p, start: [n for n in (*TARGETS, ON_DEVICE) if n.startswith(start)]
)
@click.option("--device", metavar="NAME", help="The device to build on; for the target on-device.")
@click.option(
    "--gpu",
    type=click.Choice(GPUS),
    help="What on-device builds for. [auto: CUDA where its compiler and a GPU are, else none]",
)
def build_target(target: str, device: str | None, gpu: Gpu | None) -> None:
    """Build the runner for TARGET, and print its path.

    Nothing is built again while sources, flags and compiler are the same. The target on-device is built by the device
    itself, with its own compilers: for its GPU.
    """
    end_cleanly_when_stopped()
    if target == ON_DEVICE:
        if device is None:
            raise click.UsageError(f"{ON_DEVICE} needs the device to build on: --device NAME")
        click.echo(_build_on(device, gpu or "auto"))
        return
    if device is not None or gpu is not None:
        raise click.UsageError(f"--device and --gpu go with the target {ON_DEVICE}")
    wanted = find_target(target)
    with build_bar(Console(stderr=True, emoji=False), wanted.name) as show:
        path = build(wanted, show)
    click.echo(path)


@runner.command(
    "add",
    epilog="\b\nExamples:\n  melt runner add llama-b7000-bin-android-arm64.tar.gz\n"
    "  melt runner add build.zip --name adreno\n  melt run --device pixel8 --backend llamabench --runner adreno ...",
)
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", help="What plans call it.  [default: the archive's name]")
def add(archive: Path, name: str | None) -> None:
    """Take llama-bench and its libraries from ARCHIVE, a llama.cpp release or a build of your own (.tar.gz, .zip).

    The backend llamabench runs it as it is, with its own timings: prefill and decode speed, and no more than those.
    """
    program = add_program(archive, name)
    click.echo(f"{program.name}: {program.what}, {plural(len(program.files), 'file')}")


@runner.command("remove", epilog="\b\nExample:\n  melt runner remove adreno")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a llama-bench that was added."""
    remove_program(name)


def _build_on(device: str, gpu: Gpu) -> Path:
    profile = load_profile(device)
    with closing(connect(profile)) as driver, lease(lease_name(profile, driver.facts()), device):
        if not isinstance(driver, ShellDriver):
            raise RunnerError(
                f"{device}: has no shell to build with", "`melt runner list` shows what can be built here."
            )
        with build_bar(Console(stderr=True, emoji=False), f"{device}, on it") as show:
            return build_on_device(driver, gpu, show)
