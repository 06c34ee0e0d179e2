"""Results: tidy frames of a store, made when first asked for.

Columns, units and meanings are in ``melt.analysis.columns`` and ``docs/results.md``.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from melt.analysis import parallel, rows
from melt.analysis.cells import cells_frame
from melt.analysis.columns import names
from melt.analysis.flags import flags_of
from melt.analysis.measures.latency import intervals
from melt.analysis.measures.rails import has_rails, rail_rows
from melt.analysis.run_record import RunRecord, read
from melt.analysis.tails import with_tails
from melt.analysis.telemetry import telemetry_text
from melt.errors import StoreError
from melt.store.manifest import MANIFEST, DamagedRunError, Flag, Manifest, read_manifest
from melt.store.store import Damaged, Run, Store
from melt.telemetry.series import series
from melt.util.text import plural

WORTH_A_PROCESS = 250  # runs: a second or so of parsing, about what starting one costs


class Results:
    """What was measured, as pandas frames.

    Attributes:
        recorded: every run with its events, oldest first.
        damaged: folders that should hold a run and do not, with the reason.
        folders: the results folders it was read from.
    """

    def __init__(
        self, recorded: Sequence[RunRecord], damaged: Sequence[Damaged] = (), folders: Sequence[Path] = ()
    ) -> None:
        self.folders = tuple(folders)
        self.recorded = tuple(recorded)
        self.damaged = tuple(damaged)

    def __repr__(self) -> str:
        ok = sum(r.ok for r in self.recorded)
        return f"Results({plural(len(self.recorded), 'run')}, {ok} ok, {len(self.damaged)} damaged)"

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """Every run's manifest by run_id."""
        return {r.run_id: r.manifest for r in self.recorded}

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run: metrics are medians over its timed iterations."""
        frame = _frame("runs", [rows.run_row(s, self._flags[s.rec.run_id]) for s in self._summaries])
        frame["counted"] = rows.counted(frame, [str(s.rec.run.folder.parent) for s in self._summaries])
        return frame

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """A row a timed iteration."""
        return _frame("iterations", [row for s in self._summaries for row in s.iterations])

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """A row a generated token of a timed iteration."""
        return rows.tokens_frame(self.recorded)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row a telemetry sample of every run; large, and read from disk when first asked for."""
        return pd.concat([self.samples_of(r.run_id) for r in self.recorded], ignore_index=True)

    @cached_property
    def ops(self) -> pd.DataFrame:
        """A row an operator, phase and device of a profiling pass."""
        return _frame("ops", [row for r in self.recorded for row in rows.ops_rows(r)])

    @cached_property
    def rails(self) -> pd.DataFrame:
        """A row a run and rail: its energy by phase, medians over the timed iterations; read when first asked for."""
        return _frame(
            "rails",
            [
                row
                for r in self.recorded
                if has_rails(r)
                for row in rail_rows(r, series(r.manifest.telemetry, telemetry_text(r)))
            ],
        )

    @cached_property
    def flags(self) -> pd.DataFrame:
        """A row a reason to doubt a run, with its evidence."""
        return _frame(
            "flags",
            [{"run_id": i, "flag": f.name, "evidence": f.evidence} for i, found in self._flags.items() for f in found],
        )

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a cell under one passport: medians over sessions with ``_lo`` and ``_hi`` bounds."""
        return with_tails(cells_frame(self.runs), self.runs, self.intervals_of)

    def samples_of(self, run_id: str) -> pd.DataFrame:
        """The telemetry samples of one run."""
        rec = next(r for r in self.recorded if r.run_id == run_id)
        return rows.samples_frame(rec, series(rec.manifest.telemetry, telemetry_text(rec)))

    def intervals_of(self, run_ids: Collection[str]) -> NDArray[np.float64]:
        """Every interval between tokens of the timed iterations of some runs, seconds."""
        return intervals(p for run_id in run_ids if run_id in self._by_id for p in self._by_id[run_id].timed)

    @cached_property
    def _by_id(self) -> dict[str, RunRecord]:
        return {r.run_id: r for r in self.recorded}

    @cached_property
    def _summaries(self) -> list[rows.Summary]:
        observed = parallel.observe_all(self.recorded, least=WORTH_A_PROCESS)
        return [rows.summary(r, o) for r, o in zip(self.recorded, observed, strict=True)]

    @cached_property
    def _flags(self) -> dict[str, list[Flag]]:
        return {s.rec.run_id: flags_of(s.rec, s.metrics, s.observed) for s in self._summaries}


def load(*folders: str | Path) -> Results:
    """Reads results folders.

    Damaged runs are listed in ``damaged`` and never fatal; a run found twice is read once.

    Args:
        *folders: results folders, or folders of single runs; ``results`` when none is named.

    Raises:
        StoreError: a folder is missing or holds no run, or was written by a newer melt.
    """
    recorded: dict[str, RunRecord] = {}
    damaged: list[Damaged] = []
    paths = [Path(f) for f in folders] or [Path("results")]
    for path in paths:
        runs, broken = _runs(path)
        damaged += broken
        for run in runs:
            known = recorded.get(run.manifest.run_id)
            if known is None:
                recorded[run.manifest.run_id] = read(run)
            elif known.manifest != run.manifest:
                damaged.append(Damaged(run.folder, f"another run with the same id is in {known.run.folder}"))
    if not recorded:
        where = ", ".join(str(p) for p in paths)
        aside = f" ({len(damaged)} damaged: {damaged[0].folder.name}: {damaged[0].reason})" if damaged else ""
        raise StoreError(f"{where}: holds no run{aside}", "Measure something first: `melt run --help`.")
    return Results(sorted(recorded.values(), key=lambda r: (r.manifest.started_at, r.run_id)), damaged, paths)


def _runs(path: Path) -> tuple[list[Run], list[Damaged]]:
    """The runs of a results folder; of a run's own folder, that run."""
    if not (path / MANIFEST).is_file():
        return Store(path).runs()
    try:
        return [Run(path, read_manifest(path / MANIFEST))], []
    except DamagedRunError as e:
        return [], [Damaged(path, str(e))]


def _frame(name: str, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = names(name)
    return (
        pd.DataFrame.from_records(list(records), columns=columns)
        if records
        else pd.DataFrame({c: np.empty(0) for c in columns})
    )
