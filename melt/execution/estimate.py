"""How long a plan will take: from the cost laws and a rate, which earlier runs or the ones just made give.

An estimate for a progress bar; no number of it reaches a result.
"""

from collections.abc import Iterable
from datetime import datetime

from melt.models.cost import decode_bytes_per_token, flops_prefill
from melt.models.info import ModelInfo
from melt.spec.cell import Cell
from melt.spec.plan import Plan
from melt.store.store import Run

# Of a small CPU, for the first estimate of all; the first run replaces it.
NOMINAL_FLOP_PER_S = 60e9
NOMINAL_BYTE_PER_S = 6e9
OVERHEAD_S = 2.0


def work_s(cell: Cell, model: ModelInfo) -> float:
    """Seconds that one session of a cell would take on the nominal device, beside its overhead."""
    if cell.workload == "sustained":
        return cell.sustained_s
    prefill_s = flops_prefill(model, cell.prompt_tokens) / NOMINAL_FLOP_PER_S
    decode_s = cell.gen_tokens * decode_bytes_per_token(model, cell.prompt_tokens) / NOMINAL_BYTE_PER_S
    return cell.iterations * (prefill_s + decode_s) + cell.warmups * min(1.0, prefill_s + decode_s)


def overhead_s(plan: Plan) -> float:
    """Seconds of a session in which nothing is timed."""
    return OVERHEAD_S + plan.idle_s


class Rate:
    """How much slower than nominal each model runs on each device, learned from finished runs."""

    def __init__(self, plan: Plan, models: dict[str, ModelInfo]) -> None:
        self._plan = plan
        self._models = models
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}  # (device, model) -> (taken, nominal)

    def learn(self, run: Run) -> None:
        """Takes in a finished run."""
        m = run.manifest
        model = self._models.get(m.cell.model)
        if m.status != "ok" or model is None:
            return
        taken = (datetime.fromisoformat(m.ended_at) - datetime.fromisoformat(m.started_at)).total_seconds()
        work = work_s(m.cell, model)
        before = self._seen.get((m.cell.device, m.cell.model), (0.0, 0.0))
        busy = max(0.1, taken - overhead_s(self._plan) - (m.cooldown_s or 0.0))
        self._seen[(m.cell.device, m.cell.model)] = (before[0] + busy, before[1] + work)

    @property
    def learned(self) -> bool:
        """Whether any run has been seen."""
        return bool(self._seen)

    def session_s(self, cell: Cell) -> float:
        """Seconds one session of a cell should take."""
        return overhead_s(self._plan) + work_s(cell, self._models[cell.model]) * self._factor(cell)

    def total_s(self, cells: Iterable[Cell]) -> float:
        """Seconds for one session of each."""
        return sum(self.session_s(c) for c in cells)

    def _factor(self, cell: Cell) -> float:
        exact = self._seen.get((cell.device, cell.model))
        known = [exact] if exact else [v for (device, _), v in self._seen.items() if device == cell.device]
        taken, nominal = sum(t for t, _ in known), sum(n for _, n in known)
        return taken / nominal if nominal else 1.0
