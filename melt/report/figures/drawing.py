"""A figure, and what the page says about it."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure with its heading and caption; ``header`` and ``rows`` are its numbers."""

    slug: str
    heading: str
    caption: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
