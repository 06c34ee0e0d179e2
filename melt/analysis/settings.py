"""The settings of a run as columns: what its cell asked for, save where something else ran, and what its model is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from melt.analysis.passport import UNKNOWN_SETTINGS
from melt.analysis.run_record import RunRecord
from melt.spec.axes import Axis
from melt.spec.cell import AXES
from melt.spec.metrics import Column

# What no plan asks for: where it ran, and what the model's header says.
FOUND = (
    Column("effective_accelerator", "", "where at least half of the weights were"),
    Column("model_name", "", "name of the model"),
    Column("family", "", "transformer, ssm, hybrid or unknown"),
    Column("arch", "", "architecture as the engine names it"),
    Column("quant", "", "quantisation of the weights"),
    Column("synthetic", "", "true where the weights are random numbers in the published shape"),
    Column("n_params", "parameters", "number of parameters"),
)
SETTINGS = (*(Column(a.name, a.unit, a.of_run) for a in AXES.values()), *FOUND)
# Tell two rows apart that no setting does: by a model's reference, other conditions, another file, or what was asked.
LAST = ("model", "conditions_id", "passport_id", "settings_id")


def settings_of(rec: RunRecord) -> dict[str, Any]:
    """A run's values of ``SETTINGS``."""
    asked = {name: _value(axis, getattr(rec.manifest.cell, name)) for name, axis in AXES.items()}
    found = {name: np.nan if value is None else value for name, value in (_as_run(rec) | _of_model(rec)).items()}
    return asked | found | dict.fromkeys(_unknown(rec), np.nan)


def _unknown(rec: RunRecord) -> list[str]:
    """The axes whose values in its cell say nothing, as it was imported from a program that does not tell them."""
    return [name for name in rec.manifest.passport.get(UNKNOWN_SETTINGS, "").split(",") if name in AXES]


def _value(axis: Axis, asked: object) -> object:
    if isinstance(asked, tuple):
        return axis.text(asked) if asked else ""
    return np.nan if asked is None else asked


def _as_run(rec: RunRecord) -> dict[str, Any]:
    """What ran, where the run says so; of the cell's axes those whose rows say ``as_run``."""
    cell, loaded = rec.manifest.cell, rec.loaded
    fixed = loaded.cache_type if loaded else None
    return {
        "runner": rec.hello.runner.removeprefix("melt-runner-") if rec.hello else cell.runner,
        "threads": cell.threads or (loaded.threads if loaded else rec.manifest.job.get("threads")),
        "power_mode": rec.manifest.device.power_mode or None,
        "ubatch": (loaded and loaded.ubatch) or cell.ubatch,
        "type_k": fixed or cell.type_k,
        "type_v": fixed or cell.type_v,
        "effective_accelerator": loaded.effective_accelerator if loaded else None,
    }


def _of_model(rec: RunRecord) -> dict[str, Any]:
    model = rec.manifest.model
    if model is None:
        return {"model_name": rec.manifest.cell.model, **dict.fromkeys(c.name for c in FOUND[2:])}
    return {"model_name": model.name, **{c.name: getattr(model, c.name) for c in FOUND[2:]}}


def differing(cells: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """The settings in which cells differ beside the columns shown; and what else it takes to tell measured ones apart.

    Args:
        cells: rows of the ``cells`` frame.
        shown: columns that stand in the table anyhow.
    """
    found = [name for name in _settings(shown) if cells[name].nunique() > 1]
    return found + _last(cells[cells["n_sessions"] > 0], [*shown, *found])


def telling(cells: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """The same in as few columns as will do: one that goes with another is left out, as a runner with its backend."""
    found: list[str] = []
    for name in _settings(shown):
        if _tells(cells, found, name):
            found.append(name)
    return found + _last(cells, [*shown, *found])


def _settings(shown: Sequence[str]) -> list[str]:
    return [name for name, axis in AXES.items() if axis.separates != "model" and name not in shown]


def _last(cells: pd.DataFrame, shown: list[str]) -> list[str]:
    found: list[str] = []
    for name in (*_settings(shown), *LAST):
        if cells.duplicated([*shown, *found]).any() and _tells(cells, [*shown, *found], name):
            found.append(name)
    return found


def _tells(cells: pd.DataFrame, shown: Sequence[str], name: str) -> bool:
    """Whether the column differs among cells that are alike in those shown."""
    groups = cells.groupby([*shown], dropna=False) if shown else cells.assign(all=0).groupby("all")
    return bool((groups[name].nunique(dropna=False) > 1).any())
