"""Runs collapsed to cells: medians over sessions, never across passports."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from melt.analysis.columns import IDENTITY, names
from melt.analysis.metrics import METRICS, SPEEDS
from melt.analysis.settings import SETTINGS
from melt.analysis.stats import bounds_are, median_with_bounds
from melt.spec.cell import AXES

KEY = ["cell_id", "passport_id"]


def cells_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a cell and passport, with the median of its undisturbed ok runs and their bounds.

    Every ok run is a fresh process and so a session, but for what repeats one that counts already. Where all were
    disturbed the medians are over all of them, so that a table shows something. A run that failed or was skipped counts
    with the group of its passport; where its device could not be asked and the cell has one group, with that one.
    """
    groups = _groups(runs)
    if not groups:
        return pd.DataFrame({c: np.empty(0) for c in names("cells")})
    clean = [_clean(runs, ok) for ok, _ in groups]
    records = [_described(runs.iloc[ok + bad], len(ok), len(few)) for (ok, bad), few in zip(groups, clean, strict=True)]
    frame = pd.DataFrame.from_records(records)
    table = runs[list(METRICS)].to_numpy(dtype=float)
    numbers = _bounds(table, [few or ok for (ok, _), few in zip(groups, clean, strict=True)])
    numbers |= _speeds(numbers, frame["prompt_tokens"].to_numpy(dtype=float))
    out = pd.concat([frame, pd.DataFrame(numbers)], axis=1)
    settings = [name for name, axis in AXES.items() if axis.separates == "setting" and name != "device"]
    order = ["device", "model_name", "quant", *settings, "prompt_tokens", *KEY]
    return out[names("cells")].sort_values(order, kind="stable", ignore_index=True)


def _groups(runs: pd.DataFrame) -> list[tuple[list[int], list[int]]]:
    """Row numbers of each group: those that are ok, and those that are not."""
    ok: dict[tuple[str, str], list[int]] = {}
    bad: dict[tuple[str, str], list[int]] = {}
    keys = list(zip(runs["cell_id"], runs["passport_id"], strict=True))
    repeats = ~runs["counted"] & (runs["disturbed"] == "") & (runs["status"] == "ok")
    for i, (key, status, repeat) in enumerate(zip(keys, runs["status"], repeats, strict=True)):
        if not repeat:
            (ok if status == "ok" else bad).setdefault(key, []).append(i)
    of_cell: dict[str, list[tuple[str, str]]] = {}
    for key in ok:
        of_cell.setdefault(key[0], []).append(key)
    for key in [k for k in bad if k not in ok and len(of_cell.get(k[0], [])) == 1]:
        bad.setdefault(of_cell[key[0]][0], []).extend(bad.pop(key))
    return [(ok.get(key, []), bad.get(key, [])) for key in {**ok, **bad}]


def _clean(runs: pd.DataFrame, rows: list[int]) -> list[int]:
    counted = runs["counted"].to_numpy()
    return [i for i in rows if counted[i]]


def _described(group: pd.DataFrame, n_ok: int, n_clean: int) -> dict[str, object]:
    first = group.iloc[0]
    flags = {f for joined in group["flags"][:n_ok] for f in joined.split(",") if f}
    return {
        **{c.name: first[c.name] for c in (*IDENTITY, *SETTINGS) if c.name != "run_id"},
        "adaptive": bool(group["adaptive"].all()),
        "n_sessions": n_ok,
        "n_clean": n_clean,
        "bounds": bounds_are(n_clean or n_ok) or np.nan,
        "n_failed": int((group["status"] == "failed").sum()),
        "n_skipped": int((group["status"] == "skipped").sum()),
        "flags": ",".join(sorted(flags)),
        "itl_reason": np.nan,  # of a pool of intervals, which is made of the runs' events
    }


def _bounds(table: np.ndarray, groups: list[list[int]]) -> dict[str, np.ndarray]:
    """Median and bounds of every metric of every group; groups of one size are done at once."""
    n_metrics = len(METRICS)
    stacked = np.full((3, len(groups), n_metrics), np.nan)
    sizes = np.array([len(g) for g in groups])
    for n in np.unique(sizes[sizes > 0]):
        which = np.flatnonzero(sizes == n)
        columns = np.stack([table[groups[i]] for i in which], axis=1).reshape(n, -1)
        for k, found in enumerate(median_with_bounds(columns)):
            stacked[k, which] = found.reshape(len(which), n_metrics)
    out = {}
    for j, name in enumerate(METRICS):
        out[name], out[f"{name}_lo"], out[f"{name}_hi"] = stacked[:, :, j]
    return out


def _speeds(numbers: Mapping[str, np.ndarray], prompt_tokens: np.ndarray) -> dict[str, np.ndarray]:
    """The speeds that belong to the median times; the longest time is the lowest speed."""
    out = {}
    for speed in SPEEDS:
        tokens = prompt_tokens if speed.of_tokens else np.ones(len(prompt_tokens))
        for bound, other in (("", ""), ("_lo", "_hi"), ("_hi", "_lo")):
            seconds = numbers[speed.of_time + other]
            out[speed.name + bound] = np.divide(tokens, seconds, out=np.full(len(tokens), np.nan), where=seconds > 0)
    return out
