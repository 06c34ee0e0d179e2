"""What an axis is: one row says all that melt knows of one setting of a cell. The rows are ``melt.spec.cell.Cell``.

Whatever lists, checks, tells, tabulates or compares settings is derived from those rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from melt.util.text import counted

# What is measured anew where an axis differs: the same thing more often or on other tokens (passes), a further
# point of a curve (context), another model's curve (model), or something else that no comparison mixes (setting).
Separates = Literal["setting", "passes", "context", "model"]


@dataclass(frozen=True)
class Axis:
    """One setting of a cell; a plan has a list of its values, each of which makes cells of its own."""

    title: str  # its one name, as within a sentence
    meaning: str  # in a line, for the column, the page on plans and `melt run --help`; choices are added to it
    unit: str = ""  # of the column; empty for text and counts
    key: str = ""  # in a plan; empty: the field's name
    option: str = ""  # of `melt run`; empty: --set KEY=VALUE reaches it
    default_list: tuple[object, ...] | None = None  # of a plan; None: the field's default alone
    page: str = ""  # of the docs, that says more
    as_run: str = ""  # how a run's value may be another than its cell's; added to the column's meaning
    noun: str = ""  # of what is counted, one of them: a value in a phrase is "1 thread", "2 threads"
    words: str = ""  # a value in a phrase otherwise, as "for {} s"; empty: the title before it
    per: str = ""  # how often each value is, where a list of values stands alone: "a session"
    unset: str = "auto"  # how None is said
    always_said: bool = False  # in a cell's label; other settings are said where they are not the default
    separates: Separates = "setting"
    job: str = ""  # the field of the job that tells the runner, as "workload.seed"; empty: none does
    only_with: tuple[str, object] | None = None  # it means nothing unless this field has this value
    of_some_engines: bool = False  # not every engine has it; a backend names those of them that its engine has
    condition: str = ""  # the condition of the device that it asks for
    older_than_field: tuple[object, ...] = ()  # values that add nothing to an id: some results are older than the field
    expand: Callable[[Any], Any] | None = None  # makes a list of what a plan gives that is none yet
    # Filled in from the field at which the row stands.
    name: str = ""
    default: object = None
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)  # JSON schema of a value

    @property
    def word(self) -> str:
        """What one value is called: on the command line, in a plan that gives one, and above a column."""
        return self.name if self.key == f"{self.name}s" else self.key

    @property
    def choices(self) -> tuple[str, ...]:
        """All values, where they are few and fixed."""
        return tuple(self.schema.get("enum", ()))

    @property
    def whole_numbers(self) -> tuple[int, int] | None:
        """The least and the greatest value, where values are whole numbers."""
        kinds = (self.schema, *self.schema.get("anyOf", ()))
        return next(((k["minimum"], k["maximum"]) for k in kinds if k.get("type") == "integer"), None)

    @property
    def described(self) -> str:
        """Its meaning with its choices."""
        *some, last = self.choices or ("",)
        return f"{self.meaning}: {', '.join(some)} or {last}" if some else self.meaning

    @property
    def of_run(self) -> str:
        """What its column in the frames holds."""
        return f"{self.described}. Of a run: {self.as_run}" if self.as_run else self.described

    @property
    def heading(self) -> str:
        """Its name as a heading begins."""
        return self.title[:1].upper() + self.title[1:]

    def text(self, value: object) -> str:
        """A value for people."""
        if value is None:
            return self.unset
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, tuple):
            return ", ".join(f"{name}={one}" for name, one in value) or "none"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def phrase(self, text: str) -> str:
        """The text of a value as it stands among those of other axes."""
        if self.noun:
            return counted(text, self.noun)
        return self.words.format(text) if self.words else f"{self.title} {text}"
