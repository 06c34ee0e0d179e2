"""Third parties' code: whatever it raises, or gives where something else is due, is an error that names its package."""

import collections.abc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from melt.errors import MeltError

CANNOT_BE_LOADED = "cannot be loaded"
HINT = "Mend or uninstall the package that it is from."
_OWN = "melt."
_MAX_CHARS = 300
Raised = tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Plugin:
    """What an entry point brings, and how its faults are told.

    Args:
        what: the sort of thing that it is: "driver", "backend", "sensor kind".
        error: what its faults become.
        whose: what a message begins with, as "desk: ".
        roles: protocols of the objects that its methods give, which are guarded like itself; the more special first.
        may_raise: by a method's name, what it raises by agreement, beside MeltErrors.
    """

    what: str
    point: EntryPoint
    error: type[MeltError] = MeltError
    whose: str = ""
    roles: Sequence[type] = ()
    may_raise: Mapping[str, Raised] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it comes with melt."""
        return self.point.value.startswith(_OWN)

    def __str__(self) -> str:
        package = self.point.dist
        source = f"{package.name} {package.version}" if package else self.point.value
        return f"{self.what} {self.point.name!r} ({source})"

    @contextmanager
    def calling(self, fails: str = "fails", but: Raised = ()) -> Iterator[None]:
        """Its code is called within: all but MeltErrors, Ctrl-C and what it may raise becomes its fault."""
        try:
            yield
        except (MeltError, KeyboardInterrupt):
            raise
        except but:
            raise
        except BaseException as e:  # also SystemExit: nobody but melt ends melt
            raise self.fault(e, fails) from e

    def fault(self, raised: BaseException, fails: str) -> MeltError:
        """What it raised, as an error of melt's."""
        return self.error(f"{self.whose}{self} {fails}: {in_words(raised)}", HINT)

    def guard(self, made: Any, role: type) -> Any:
        """An object that it made, with the members of its role and no others, each called as third parties' code is.

        Raises:
            TypeError: the object is none of that role.
        """
        if lacking := _lacking(made, role):
            raise TypeError(f"{_short(made)} is no {role.__module__}.{role.__name__}: it has no {lacking[0]}")
        chosen = next((r for r in self.roles if role in r.__mro__ and not _lacking(made, r)), role)
        guarded = _guarded(chosen)()
        guarded.__dict__ |= {"_made": made, "_plugin": self}
        return guarded

    def guard_fields(self, record: Any) -> Any:
        """A dataclass that it made, with each field of its type, and its functions called as third parties' code is.

        Raises:
            TypeError: a field is of another type.
        """
        fields = {name: (getattr(record, name), due) for name, due in get_type_hints(type(record)).items()}
        return replace(record, **{name: self._field(name, *one) for name, one in fields.items()})

    def _field(self, name: str, value: Any, due: Any) -> Any:
        of_function = [one for one in (due, *get_args(due)) if get_origin(one) is collections.abc.Callable]
        if of_function and callable(value):
            return _call(self, name, value, get_args(of_function[0])[1])
        return _checked(value, due, f"its {name}")

    def returned(self, value: Any, due: Any) -> Any:
        """What a method of its gave; raises TypeError where something else is due."""
        if self.is_own:  # the type checker has held it to that
            return value
        if due in self.roles:
            return self.guard(value, due)
        value = _checked(value, due, "it")
        return self.guard_fields(value) if is_dataclass(value) else value


def in_words(error: BaseException) -> str:
    """An error's kind and what it says, on one line and without what a terminal would obey."""
    try:
        said = str(error)
    except Exception:  # its own __str__ may raise too
        said = ""
    line = " ".join("".join(c for c in said if c.isprintable() or c.isspace()).split())
    return f"{type(error).__name__}: {line}"[:_MAX_CHARS] if line else type(error).__name__


def _short(value: object) -> str:
    return f"a {type(value).__name__}"


def _members(role: type) -> dict[str, Any]:
    """The public members of a role by name: its functions, and whatever stands for its other attributes."""
    own = [base for base in reversed(role.__mro__) if base.__module__.startswith(_OWN)]
    names = {name: getattr(base, name, None) for base in own for name in (*vars(base), *inspect.get_annotations(base))}
    return {name: member for name, member in names.items() if not name.startswith("_")}


def _lacking(made: object, role: type) -> list[str]:
    return [name for name in _members(role) if not hasattr(made, name)]


@cache
def _guarded(role: type) -> type:
    """A class of that role, all of whose members are those of the object ``_made``."""
    members = {n: _method(n, m) if inspect.isfunction(m) else _attribute(n) for n, m in _members(role).items()}
    return type(role.__name__, (role,), members)


def _method(name: str, function: Callable[..., Any]) -> Any:
    due = inspect.get_annotations(function).get("return", Any)

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        return _call(self._plugin, name, getattr(self._made, name), due)(*args, **keywords)

    return method


def _call(plugin: Plugin, name: str, function: Callable[..., Any], due: Any) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        with plugin.calling(f"fails in {name}", plugin.may_raise.get(name, ())):
            return plugin.returned(function(*args, **keywords), due)

    return call


def _attribute(name: str) -> property:
    def get(self: Any) -> Any:
        with self._plugin.calling(f"fails in {name}"):
            return getattr(self._made, name)

    return property(get)


def _checked(value: Any, due: Any, what: str) -> Any:
    checker = _checker(due)
    try:
        return checker.validate_python(value) if checker else value
    except ValidationError as e:
        raise TypeError(f"{what} is {_short(value)}: {e.errors(include_url=False)[0]['msg']}") from e


@cache
def _checker(due: Any) -> TypeAdapter[Any] | None:
    """What checks a value of that type; None for one that cannot be checked."""
    try:
        return TypeAdapter(due)
    except PydanticUserError:
        return None
