"""Counts with their nouns, sizes, and names side by side."""

from collections.abc import Sequence


def plural(n: int, one: str, many: str = "") -> str:
    """A count with its noun: 1 cell, 2,000 cells."""
    return counted(f"{n:,}", one, many)


def counted(written: str, one: str, many: str = "") -> str:
    """A count that is written already, with its noun."""
    return f"{written} {one if written == '1' else many or one + 's'}"


def of_all(few: int, every: int) -> str:
    """How many of all there are, as in "3 of 5"; the number alone where it is all."""
    return f"{every:,}" if few == every else f"{few:,} of {every:,}"


def joined(items: Sequence[str]) -> str:
    """a, b and c; empty where there is nothing."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def byte_count(n: int) -> str:
    """Bytes in KiB or MiB: 12.3 KiB, 1,234.5 MiB."""
    return f"{n / 2**20:,.1f} MiB" if n >= 2**20 else f"{n / 2**10:,.1f} KiB"
