"""What of the results could not be used, in plain words for the terminal."""

from collections.abc import Iterator

from melt.analysis.frames import Results
from melt.report.text import clean, plural


def lines(results: Results) -> Iterator[str]:
    """A line for each folder and run that was left out or read in part."""
    for damaged in results.damaged:
        yield f"left out: {clean(damaged.folder)}: {clean(damaged.reason)}"
    for rec in results.recorded:
        folder = clean(rec.run.folder)
        if rec.manifest.status == "ok" and rec.failure is not None:
            yield f"counted as failed: {folder}: {clean(rec.failure.message)}"
        elif rec.n_unknown_lines:
            yield f"read in part: {folder}: no events in {plural(rec.n_unknown_lines, 'line')} of events.jsonl"
