"""The nouns of a table: a column, and a metric, which is a column that people compare.

A metric is one row, declared in the module of ``melt.analysis.measures`` that computes it. Everything that
names, formats, draws or compares it reads that row: frames, tables, figures, sentences, terminal and docs.
"""

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", ""]
Per = Literal["iteration", "run", "rail"]
# Where people meet a metric: the live view and the table of `melt run`, and in a report its tables of cells, runs
# and rails, the text and the cards of a comparison, its crossovers, and the figure of what memory is made of.
Place = Literal["live", "summary", "cells", "runs", "rails", "sentence", "card", "crossover", "memory parts"]
FigureKind = Literal["latency", "memory", "energy"]


@dataclass(frozen=True)
class Column:
    """A column of a frame: ``unit`` is empty for text and counts."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Scale:
    """The unit in which a metric is read off an axis or a narrow table, and its decimals there."""

    unit: str
    factor: float = 1.0  # from the column's unit
    decimals: int = 0


# How a column's unit is drawn and printed.
SCALES = {
    "s": Scale("s", decimals=3),
    "tokens/s": Scale("tok/s", decimals=1),
    "bytes": Scale("MiB", 2**-20),
    "J": Scale("J", decimals=3),
    "J/token": Scale("mJ", 1e3, 1),
    "mWh": Scale("mWh", decimals=3),
    "mAh": Scale("mAh", decimals=3),
    "W": Scale("W", decimals=2),
    "0 to 1": Scale("%", 100.0),
    "s/s": Scale("%", 100.0),
    "ratio": Scale("", decimals=2),
    "°C": Scale("°C", decimals=1),
    "tokens": Scale("tokens"),
    "prompts": Scale("prompts"),
}


@dataclass(frozen=True)
class Words:
    """What follows a factor: 2.4× ``less`` or 2.4× ``more``, as in "2.4× faster"."""

    less: str
    more: str


@dataclass(frozen=True)
class CostLaw:
    """The highest power of the context length in a metric's cost, for models with attention and without."""

    with_attention: float
    without: float


@dataclass(frozen=True, kw_only=True)
class Metric(Column):
    """A number of a run that is collapsed over sessions by its median.

    Attributes:
        title: its one name, as within a sentence.
        short: the field's abbreviation of the title; empty where there is none.
        narrow: with its unit over a column of the terminal, where the name is wider than the numbers.
        better: the direction in which it is better; empty where it has none.
        per: ``iteration``: a run's value is the median of its timed iterations'.
        of_time: of a speed, the column of its time: a speed follows from the median time beside it, as the median
            of speeds is another number where the count is even.
        of_tokens: of a speed, the column of the tokens that went by in that time; empty where it was one.
        axis: how it is drawn and printed, where not as usual for its unit.
        words: how a factor is told.
        shown: where people meet it beside the frames.
        figure: the chapter in which it is drawn against context length.
        plain: for a caption, what it is to someone who does not know the term.
        law: of a metric whose curve is searched for cliffs.
        of_prompt: a sum over the prompt's tokens, each of which costs more the more stand before it: divided by the
            tokens it is straight in the context length, where others are so as they are.
    """

    title: str
    short: str = ""
    narrow: str = ""
    better: Better = ""
    per: Per = "run"
    of_time: str = ""
    of_tokens: str = ""
    axis: Scale | None = None
    words: Words = Words("less", "more")
    shown: tuple[Place, ...] = ()
    figure: FigureKind | None = None
    plain: str = ""
    law: CostLaw | None = None
    of_prompt: bool = False

    @property
    def heading(self) -> str:
        """Its name as a heading begins."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def label(self) -> str:
        """Its name where there is little room: the abbreviation if the field has one."""
        return self.short or self.heading

    @property
    def narrow_heading(self) -> str:
        """Its name and unit over a column of the terminal."""
        return self.narrow or f"{self.short or self.title} {self.scale.unit}"

    @property
    def full(self) -> str:
        """Its name with the abbreviation."""
        return f"{self.heading} ({self.short})" if self.short else self.heading

    @property
    def scale(self) -> Scale:
        """How it is drawn and printed."""
        return self.axis or SCALES[self.unit]

    @property
    def better_word(self) -> str:
        """How a better value is called: faster, smaller."""
        return self.words.less if self.better == "lower" else self.words.more
