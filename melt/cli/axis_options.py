"""The options of ``melt run`` that are axes, made of their rows."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from melt.spec.axes import Axis
from melt.spec.cell import AXES

Command = TypeVar("Command", bound=Callable[..., Any])


class Numbers(click.ParamType[tuple[int, ...]]):
    """Values of an axis of whole numbers, with commas between them: 128,512,2048."""

    name = "N[,N...]"

    def __init__(self, axis: Axis) -> None:
        if axis.whole_numbers is None:
            raise ValueError(f"{axis.name} has other values than whole numbers")
        self._least, self._most = axis.whole_numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers in the order given, without repeats."""
        if isinstance(value, tuple):
            return value  # click converts a default twice
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 128,512,2048", param, ctx)
        if min(numbers) < self._least:
            self.fail(f"{value!r}: every number must be at least {self._least}", param, ctx)
        if max(numbers) > self._most:
            self.fail(f"{value!r}: every number must be at most {self._most}", param, ctx)
        return tuple(dict.fromkeys(numbers))


def axis_options(command: Command) -> Command:
    """The command with an option for each axis whose row names one, in the rows' order."""
    for axis in reversed([*AXES.values()]):
        if axis.option:
            command = _option(axis)(command)
    return command


def _option(axis: Axis) -> Callable[[Command], Command]:
    says = axis.meaning[:1].upper() + axis.meaning[1:] + ("." if axis.whole_numbers else "; repeatable.")
    if axis.default_list:
        says += f"  [default: {', '.join(axis.text(value) for value in axis.default_list)}]"
    if axis.whole_numbers:
        return click.option(axis.option, axis.key, type=Numbers(axis), help=says)
    kind = click.Choice(axis.choices) if axis.choices else None
    complete = _complete_device if axis.name == "device" else None
    return click.option(axis.option, axis.key, multiple=True, type=kind, shell_complete=complete, help=says)


def _complete_device(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from melt.drivers.profiles import profile_paths

    return [name for name in profile_paths() if name.startswith(incomplete)]
