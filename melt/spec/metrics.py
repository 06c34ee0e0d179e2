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
Group = Literal["latency", "memory", "energy"]


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
        better: the direction in which it is better; empty where it has none.
        per: ``iteration``: a run's value is the median of its timed iterations'.
        of_time: of a speed, the column of its time: a speed follows from the median time beside it, as the median
            of speeds is another number where the count is even.
        scale: how it is drawn and printed; of a metric that is shown.
        words: of a metric that is told as a factor.
        shown: where people meet it beside the frames.
        figure: the chapter in which it is drawn against context length.
        plain: for a caption, what it is to someone who does not know the term.
        law: of a metric whose curve is searched for cliffs.
    """

    title: str
    short: str = ""
    better: Better = ""
    per: Per = "run"
    of_time: str = ""
    scale: Scale | None = None
    words: Words | None = None
    shown: tuple[Place, ...] = ()
    figure: Group | None = None
    plain: str = ""
    law: CostLaw | None = None

    @property
    def heading(self) -> str:
        """Its name as a heading begins."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def label(self) -> str:
        """Its name where there is little room: the abbreviation if the field has one."""
        return self.short or self.heading

    @property
    def better_word(self) -> str:
        """How a better value is called: faster, smaller."""
        if self.words is None:
            return "better"
        return self.words.less if self.better == "lower" else self.words.more
